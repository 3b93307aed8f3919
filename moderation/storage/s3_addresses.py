"""What stands behind `s3://`: a bucket, or an access point by its ARN, and where each answers. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from moderation.errors import ErrorCode, StorageError

_ARN = re.compile(r"arn:[^/]*?:accesspoint[:/][^/:]+|arn:[^/]*")
_ACCESS_POINT = re.compile(r"arn:(aws[a-z-]*):s3:([a-z0-9-]+):(\d{12}):accesspoint[:/]([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class AccessPoint:
    """A name of its own, with rights of its own, for a bucket."""

    partition: str
    region: str
    account: str
    name: str

    def endpoint(self, configured: str | None) -> str:
        """The URL that it answers at; `configured`: the endpoint that is set, if not AWS's own."""
        if configured is not None:
            parts = urlsplit(configured)
            return parts._replace(netloc=f"{self.name}-{self.account}.{parts.netloc}").geturl()
        suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"
        return f"https://{self.name}-{self.account}.s3-accesspoint.{self.region}.{suffix}"


def split_bucket(rest: str) -> tuple[str, str]:
    """Bucket and key of what follows `s3://`. The slash in an access point's ARN separates nothing."""
    arn = _ARN.match(rest)
    if arn is None:
        bucket, _, key = rest.partition("/")
        return bucket, key
    return arn[0], rest[arn.end() :].removeprefix("/")


def access_point(bucket: str) -> AccessPoint | None:
    """The access point that an ARN names; None for a bucket. Raises `StorageError` for ARNs of anything else."""
    if not bucket.startswith("arn:"):
        return None
    found = _ACCESS_POINT.fullmatch(bucket)
    if found is None:
        raise StorageError(
            ErrorCode.NOT_FOUND,
            f"cannot use {bucket!r}: the only ARNs allowed are those of S3 access points in one region, "
            "arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME; or give the bucket's name, or the access point's alias",
        )
    return AccessPoint(*found.groups())

"""Tags of objects in S3: added to those that an object has, never in place of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from moderation.errors import ErrorCode, StorageError
from moderation.storage.entity_tags import entity_tag, is_made, is_same

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import TagTypeDef

MOST = 10
"""Tags that an object can have."""


def add_tags(client: "S3Client", bucket: str, key: str, tags: Mapping[str, str], etag: str) -> None:
    """Give one version of an object these tags and leave its other ones. Nothing is written if it has them already.

    Where the bucket keeps versions, exactly the version of this ETag is tagged. Elsewhere, an object that is replaced between
    the look at its ETag and the write gets the tags as well: S3 has no condition for this call. Other writers of tags in the
    same moment can lose theirs, for the same reason.

    Args:
        client: boto3's.
        bucket: its name.
        key: the object.
        tags: names and values, as S3 allows them.
        etag: the object's version, or "" for any.

    Raises:
        StorageError: `changed` if it is another version by now; `storage_error` if it would have more than `MOST` tags.
        ClientError, BotoCoreError: as boto3 raises them.
    """
    found = client.head_object(Bucket=bucket, Key=key)
    now = entity_tag(found.get("ETag"))
    if etag and not is_made(etag) and not is_same(now, etag):
        raise StorageError(ErrorCode.CHANGED, f"the object is another one now: etag {etag!r:.80}, now {now!r:.80}")
    version = found.get("VersionId")
    which: Any = {"VersionId": version} if version and version != "null" else {}
    present = {tag["Key"]: tag["Value"] for tag in client.get_object_tagging(Bucket=bucket, Key=key, **which)["TagSet"]}
    merged = {**present, **tags}
    if len(merged) > MOST:
        raise StorageError(ErrorCode.STORAGE_ERROR, f"the object would have {len(merged)} tags, and S3 allows {MOST}")
    if merged != present:
        pairs: list[TagTypeDef] = [{"Key": name, "Value": value} for name, value in merged.items()]
        client.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": pairs}, **which)

"""S3 and stores that speak its API.

boto3 lists: obstore stops at keys it cannot express as a path ("a//b", "a/../b", control characters). obstore moves the
bytes; keys it refuses go through boto3.
"""

import re
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from moderation.errors import ErrorCode, StorageError
from moderation.storage.backend import StoredObject
from moderation.storage.cloud import ObstoreBackend
from moderation.storage.retrying import TransientError
from moderation.storage.s3_client import connect
from moderation.storage.s3_errors import AWS_ERRORS, is_wrong_region, translated

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef, ListObjectsV2OutputTypeDef, ListObjectsV2RequestTypeDef

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class S3Backend(ObstoreBackend):
    """One bucket."""

    def __init__(self, bucket: str, connections: int) -> None:
        self.bucket = bucket
        try:
            self._client, store = connect(bucket, connections)
        except AWS_ERRORS as error:
            raise translated(error, "") from None
        # obstore stays where it was sent; boto3 would go on to the right region by itself, and the start-up probe pass.
        self._client.meta.events.register_first("needs-retry.s3", _stay)
        super().__init__(f"s3://{bucket}", store)

    def probe(self, prefix: str) -> None:
        """Raise a `StorageError` that says what is wrong with the bucket, if anything is, and what to do."""
        try:
            self._page({"Bucket": self.bucket, "Prefix": prefix, "MaxKeys": 1})
        except StorageError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            endpoint = self._client.meta.endpoint_url
            told = f"the bucket {self.bucket!r} does not exist at {endpoint}: check its name, AWS_PROFILE and AWS_ENDPOINT_URL"
            raise StorageError(ErrorCode.NOT_FOUND, told) from None

    def list(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Pages of up to 1,000 objects in key order; "folders" that consoles make (empty, ending in /) are left out."""
        request: ListObjectsV2RequestTypeDef = {"Bucket": self.bucket, "Prefix": prefix}
        if after:
            request["StartAfter"] = after
        while True:
            page = self._page(request)
            found = [
                StoredObject(item["Key"], item["ETag"].strip('"'), item["Size"], item["LastModified"].astimezone(UTC))
                for item in page.get("Contents", [])
                if item["Size"] or not item["Key"].endswith("/")
            ]
            if found:
                yield found
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object at the version listed."""
        quoted = f'"{if_match}"' if if_match else None
        if _is_plain(key):
            return super().get(key, quoted)
        return self._get_object({"Bucket": self.bucket, "Key": key}, quoted)

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """A part of the object."""
        quoted = f'"{if_match}"' if if_match else None
        if _is_plain(key):
            return super().get_range(key, start, length, quoted)
        return self._get_object({"Bucket": self.bucket, "Key": key, "Range": f"bytes={start}-{start + length - 1}"}, quoted)

    def head(self, key: str) -> StoredObject:
        """What a listing would say of one object."""
        try:
            meta = self._client.head_object(Bucket=self.bucket, Key=key)
        except AWS_ERRORS as error:
            told = self._translated(error)
            if told.code is not ErrorCode.NOT_FOUND and not isinstance(told, TransientError):
                self._page({"Bucket": self.bucket, "Prefix": key, "MaxKeys": 1})  # an answer to HEAD cannot say why
            raise told from None
        return StoredObject(key, meta["ETag"].strip('"'), meta["ContentLength"], meta["LastModified"].astimezone(UTC))

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write an object."""
        if not _is_plain(key):
            raise StorageError(ErrorCode.STORAGE_ERROR, f"will not write the key {key!r}")
        super().put(key, data, create_only)

    def delete(self, key: str) -> None:
        """Remove an object."""
        if _is_plain(key):
            return super().delete(key)
        try:
            self._client.delete_object(Bucket=self.bucket, Key=key)
        except AWS_ERRORS as error:
            raise self._translated(error) from None

    def _page(self, request: "ListObjectsV2RequestTypeDef") -> "ListObjectsV2OutputTypeDef":
        try:
            page = self._client.list_objects_v2(**request)
        except AWS_ERRORS as error:
            raise self._translated(error) from None
        if "IsTruncated" not in page or (page["IsTruncated"] and not page.get("NextContinuationToken")):
            # An empty body reads as a page without objects: the rest of the listing would be lost in silence.
            endpoint = self._client.meta.endpoint_url
            raise TransientError(ErrorCode.STORAGE_ERROR, f"what {endpoint} answered is no page of a listing")
        return page

    def _get_object(self, request: "GetObjectRequestTypeDef", if_match: str | None) -> bytes:
        if if_match:
            request["IfMatch"] = if_match
        try:
            return self._client.get_object(**request)["Body"].read()
        except AWS_ERRORS as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> StorageError:
        return translated(error, self._client.meta.endpoint_url)


def _is_plain(key: str) -> bool:
    """Whether obstore can name this key."""
    return not _CONTROL.search(key) and all(part not in ("", ".", "..") for part in key.split("/"))


def _stay(response: "tuple[AWSResponse, Any] | None", operation: "OperationModel", **_: object) -> None:
    if response is None:
        return
    sent, answer = response
    if is_wrong_region(sent.status_code, answer.get("Error", {}).get("Code", "")):
        raise aws.ClientError(answer, operation.name)

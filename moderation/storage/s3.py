"""S3 and stores that speak its API.

boto3 gives session, credentials, region, profile and endpoint, exactly as other AWS tools take them, and lists: obstore
stops at keys it cannot express as a path ("a//b", "a/../b", control characters). obstore moves the bytes; keys it refuses go
through boto3.
"""

import re
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore import exceptions as aws
from botocore.config import Config
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from moderation.errors import ErrorCode, StorageError
from moderation.storage.backend import StoredObject
from moderation.storage.cloud import ObstoreBackend

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Config

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
AWS_ERRORS = (aws.ClientError, aws.BotoCoreError, ValueError)


class S3Backend(ObstoreBackend):
    """One bucket."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        try:
            session = boto3.Session()
            self._client: S3Client = session.client(
                "s3", config=Config(connect_timeout=10, retries={"mode": "adaptive", "max_attempts": 5})
            )
            if session.get_credentials() is None:
                raise StorageError(
                    ErrorCode.ACCESS_DENIED,
                    "no AWS credentials found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                )
            endpoint = self._client.meta.endpoint_url
            config: S3Config = {"region": self._client.meta.region_name or "us-east-1"}
            if ".amazonaws.com" not in endpoint:
                config["endpoint"] = endpoint
            store = S3Store(
                bucket,
                config=config,
                client_options={"allow_http": endpoint.startswith("http://"), "timeout": "120s"},
                credential_provider=Boto3CredentialProvider(session),
            )
        except AWS_ERRORS as error:
            raise _translated(error) from None
        super().__init__(f"s3://{bucket}", store)

    def probe(self) -> None:
        """Raise a `StorageError` that says what is wrong with the bucket, if anything is."""
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except aws.ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                endpoint = self._client.meta.endpoint_url
                raise StorageError(ErrorCode.NOT_FOUND, f"the bucket {self.bucket!r} does not exist at {endpoint}") from None
            if status in (301, 307, 400):
                region = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region", "another region")
                raise StorageError(
                    ErrorCode.ACCESS_DENIED,
                    f"the bucket {self.bucket!r} lies in {region}, asked in {self._client.meta.region_name}: set AWS_REGION",
                ) from None
            raise _translated(error) from None
        except AWS_ERRORS as error:
            raise _translated(error) from None

    def list(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Pages of up to 1,000 objects in key order; "folders" that consoles make (empty, ending in /) are left out."""
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, StartAfter=after)
            for page in pages:
                found = [
                    StoredObject(item["Key"], item["ETag"].strip('"'), item["Size"], item["LastModified"].astimezone(UTC))
                    for item in page.get("Contents", [])
                    if item["Size"] or not item["Key"].endswith("/")
                ]
                if found:
                    yield found
        except AWS_ERRORS as error:
            raise _translated(error) from None

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object at the version listed."""
        quoted = f'"{if_match}"' if if_match else None
        if _is_plain(key):
            return super().get(key, quoted)
        try:
            if quoted:
                answer = self._client.get_object(Bucket=self.bucket, Key=key, IfMatch=quoted)
            else:
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
            return answer["Body"].read()
        except AWS_ERRORS as error:
            raise _translated(error) from None

    def head(self, key: str) -> StoredObject:
        """What a listing would say of one object."""
        try:
            meta = self._client.head_object(Bucket=self.bucket, Key=key)
        except AWS_ERRORS as error:
            raise _translated(error) from None
        return StoredObject(key, meta["ETag"].strip('"'), meta["ContentLength"], meta["LastModified"].astimezone(UTC))

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write an object."""
        if not _is_plain(key):
            raise StorageError(ErrorCode.STORAGE_ERROR, f"will not write the key {key!r}")
        super().put(key, data, create_only)


def _is_plain(key: str) -> bool:
    """Whether obstore can name this key."""
    return not _CONTROL.search(key) and all(part not in ("", ".", "..") for part in key.split("/"))


def _translated(error: Exception) -> StorageError:
    if isinstance(error, aws.ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        text = str(error)
        if status == 404 or code in ("NoSuchKey", "NoSuchBucket"):
            return StorageError(ErrorCode.NOT_FOUND, text)
        if status == 412:
            return StorageError(ErrorCode.CHANGED, "the object changed after listing: its etag is another now")
        if status in (401, 403):
            return StorageError(ErrorCode.ACCESS_DENIED, text)
        return StorageError(ErrorCode.STORAGE_ERROR, text)
    return StorageError(ErrorCode.STORAGE_ERROR, " ".join(str(error).split())[:300])

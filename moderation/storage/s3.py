"""S3 and stores that speak its API.

boto3 lists: obstore stops at keys it cannot express as a path ("a//b", "a/../b", control characters). obstore moves the
bytes; keys it refuses go through boto3.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import obstore
from botocore import exceptions as aws
from obstore import exceptions as obstore_exceptions

from moderation.common.secrets import redacted
from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import failed
from moderation.storage.backend import Census, StoredObject
from moderation.storage.cloud import ObstoreBackend
from moderation.storage.cloud import translated as obstore_translated
from moderation.storage.entity_tags import condition, entity_tag, is_made, is_same, made_tag
from moderation.storage.retrying import TransientError
from moderation.storage.s3_addresses import access_point
from moderation.storage.s3_client import connect
from moderation.storage.s3_errors import AWS_ERRORS, is_wrong_region, translated
from moderation.storage.s3_listing import checked, pages, promises_order
from moderation.storage.s3_ranges import cuts
from moderation.storage.s3_tags import add_tags

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef, ListObjectsV2OutputTypeDef, ListObjectsV2RequestTypeDef
    from obstore import GetOptions

OBSTORE_ERRORS = (obstore_exceptions.BaseError, OSError, ValueError)
_UNKNOWN = datetime.fromtimestamp(0, UTC)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_ASCII = "header containing non-ASCII data"
"""obstore reads no such answer"""
_NO_LOCATION = "Received redirect without LOCATION"


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
        self.ordered = promises_order(self._client.meta.endpoint_url, bucket)
        super().__init__(f"s3://{bucket}", store)

    def probe(self, prefix: str) -> None:
        """Raise a `StorageError` that says what is wrong with the bucket, if anything is, and what to do."""
        try:
            self._page({"Bucket": self.bucket, "Prefix": prefix, "MaxKeys": 1})
        except StorageError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            endpoint = redacted(self._client.meta.endpoint_url)
            text = f"the bucket {self.bucket!r} does not exist at {endpoint}: check its name, AWS_PROFILE and AWS_ENDPOINT_URL"
            raise StorageError(ErrorCode.NOT_FOUND, text) from None

    def list(self, prefix: str, after: str = "", census: Census | None = None) -> Iterator[list[StoredObject]]:
        """Pages of up to 1,000 objects; "folders" that consoles make (empty, ending in /) are left out.

        In key order where the store promises it (`ordered`). Each page is asked for again until it comes, or patience ends.
        """
        request: ListObjectsV2RequestTypeDef = {"Bucket": self.bucket, "Prefix": prefix}
        return pages(self._page, request, after, self.ordered, Census() if census is None else census)

    def cuts(self, prefix: str, after: str) -> Sequence[str]:
        """Texts behind `after` between which keys can be listed at the same time; none without order."""
        request: ListObjectsV2RequestTypeDef = {"Bucket": self.bucket, "Prefix": prefix}
        return cuts(self._page, request, after) if self.ordered else []

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object at the version listed."""
        return self._of_version(key, if_match, {})

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """A part of the object."""
        return self._of_version(key, if_match, {"range": (start, start + length)})

    def head(self, key: str) -> StoredObject:
        """One object as a listing would show it."""
        try:
            meta = self._client.head_object(Bucket=self.bucket, Key=key)
        except AWS_ERRORS as error:
            text = self._translated(error)
            if text.code is not ErrorCode.NOT_FOUND and not isinstance(text, TransientError):
                self._page({"Bucket": self.bucket, "Prefix": key, "MaxKeys": 1})  # an answer to HEAD cannot say why
            raise text from None
        size, modified = meta["ContentLength"], meta.get("LastModified", _UNKNOWN).astimezone(UTC)
        return StoredObject(key, entity_tag(meta.get("ETag")) or made_tag(size, modified), size, modified)

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write an object."""
        if not _is_plain(key):
            raise StorageError(ErrorCode.STORAGE_ERROR, f"will not write the key {key!r}")
        super().put(key, data, create_only)

    def copy(self, source: str, target: str) -> None:
        """Copy within the bucket, without bringing the bytes here."""
        if access_point(self.bucket) is None:
            return super().copy(source, target)
        try:
            self._client.copy_object(Bucket=self.bucket, Key=target, CopySource={"Bucket": self.bucket, "Key": source})
        except AWS_ERRORS as error:
            raise self._translated(error) from None

    def delete(self, key: str) -> None:
        """Remove an object."""
        if _is_plain(key):
            return super().delete(key)
        try:
            self._client.delete_object(Bucket=self.bucket, Key=key)
        except AWS_ERRORS as error:
            raise self._translated(error) from None

    def add_tags(self, key: str, tags: Mapping[str, str], etag: str) -> None:
        """Add tags to one version of an object."""
        try:
            add_tags(self._client, self.bucket, key, tags, etag)
        except AWS_ERRORS as error:
            raise self._translated(error) from None

    def _page(self, request: "ListObjectsV2RequestTypeDef") -> "ListObjectsV2OutputTypeDef":
        try:
            page = self._client.list_objects_v2(**request)
        except AWS_ERRORS as error:
            raise self._translated(error) from None
        return checked(page, redacted(self._client.meta.endpoint_url))

    def _of_version(self, key: str, tag: str | None, options: "GetOptions") -> bytes:
        """A GET of one version. `If-Match` compares strongly, so weak tags are compared with what came."""
        asked = condition(tag)
        try:
            data, found = self._answer(key, options, asked)
        except StorageError as error:
            # A store that knows only weak tags, or none here, or writes them in another way, refuses each of them.
            if error.code is not ErrorCode.CHANGED or not tag or not _may_be(self.head(key).etag, tag):
                raise
            data, found = self._answer(key, options, None)
        now = found.made if tag and is_made(tag) else found.given
        if tag and not now and not asked:
            now = self.head(key).etag
        if tag and now and not _may_be(now, tag):
            raise StorageError(ErrorCode.CHANGED, f"the object changed after listing: etag {tag!r:.80}, now {now!r:.80}")
        return data

    def _answer(self, key: str, options: "GetOptions", if_match: str | None) -> tuple[bytes, "_Tags"]:
        """Bytes, and what came with them."""
        if not _is_plain(key):
            return self._get_object(key, options, if_match)
        wanted = options.copy()
        if if_match:
            wanted["if_match"] = if_match
        try:
            answer = obstore.get(self._store, key, options=wanted)
            meta = answer.meta
            return bytes(answer.bytes()), _Tags(entity_tag(meta["e_tag"]), made_tag(meta["size"], meta["last_modified"]))
        except OBSTORE_ERRORS as error:
            if _NOT_ASCII in str(error):  # in an ETag, for example
                return self._get_object(key, options, if_match)
            if _NO_LOCATION in str(error):
                raise failed(301, "PermanentRedirect", "") from None
            raise obstore_translated(error) from None

    def _get_object(self, key: str, options: "GetOptions", if_match: str | None) -> tuple[bytes, "_Tags"]:
        request: GetObjectRequestTypeDef = {"Bucket": self.bucket, "Key": key}
        span = options.get("range")
        if span:
            start, end = cast("tuple[int, int]", span)
            request["Range"] = f"bytes={start}-{end - 1}"
        if if_match:
            request["IfMatch"] = if_match
        try:
            answer = self._client.get_object(**request)
            data = answer["Body"].read()
        except AWS_ERRORS as error:
            raise self._translated(error) from None
        whole = int(answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"])
        return data, _Tags(entity_tag(answer.get("ETag")), made_tag(whole, answer.get("LastModified", _UNKNOWN)))

    def _translated(self, error: Exception) -> StorageError:
        return translated(error, self._client.meta.endpoint_url)


class _Tags(NamedTuple):
    """What says which version an answer is."""

    given: str
    """the store's own tag; "": it gave none"""
    made: str
    """made of size and time"""


def _may_be(now: str, listed: str) -> bool:
    """Whether it is the version that was listed, as far as the tags go: a store may list a tag and show none later."""
    return is_same(now, listed) or (is_made(now) and not is_made(listed))


def _is_plain(key: str) -> bool:
    """Whether obstore can name this key."""
    return not _CONTROL.search(key) and all(part not in ("", ".", "..") for part in key.split("/"))


def _stay(response: "tuple[AWSResponse, Any] | None", operation: "OperationModel", **_: object) -> None:
    if response is None:
        return
    sent, answer = response
    if is_wrong_region(sent.status_code, answer.get("Error", {}).get("Code", "")):
        raise aws.ClientError(answer, operation.name)

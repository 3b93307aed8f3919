"""Listing a bucket: each page is asked for by its own token until it comes, and what a page says of itself is checked.

A page is never asked for "behind the last key": stores that list in no order would lose objects, or repeat them.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, cast

from moderation.errors import ErrorCode, StorageError
from moderation.storage.backend import Census, StoredObject
from moderation.storage.entity_tags import entity_tag, made_tag
from moderation.storage.retrying import TransientError, retried
from moderation.storage.s3_client import DIRECTORY_BUCKET, is_aws

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ListObjectsV2RequestTypeDef, ObjectTypeDef

EMPTY_PAGES = 10_000
"""pages without an object that may follow one another"""

_THEIR_ACCESS_POINTS = "--xa-s3"

Ask = Callable[["ListObjectsV2RequestTypeDef"], "ListObjectsV2OutputTypeDef"]


def promises_order(endpoint: str, bucket: str) -> bool:
    """Whether keys come in the order of their UTF-8 bytes: in AWS's general purpose buckets, by its documentation.

    Directory buckets (S3 Express) list in no order. Other stores should list as S3 does, and some do not.
    """
    return is_aws(endpoint) and not bucket.endswith((DIRECTORY_BUCKET, _THEIR_ACCESS_POINTS))


def checked(page: "ListObjectsV2OutputTypeDef", endpoint: str) -> "ListObjectsV2OutputTypeDef":
    """The page, if it is whole. Raises `TransientError`, so that it is asked for again."""
    answer = cast("Mapping[str, Any]", page)
    items, token = answer.get("Contents", []), answer.get("NextContinuationToken")
    count = len(items) + len(answer.get("CommonPrefixes", []))
    if "IsTruncated" not in answer:
        wrong = "is not a page of a listing"  # an empty body reads as a page without objects
    elif answer["IsTruncated"] and not token:
        wrong = "is a page of a listing that continues, without the token for the next page"
    elif token and not answer["IsTruncated"]:
        wrong = "is the last page of a listing, but has a token for another one"
    elif answer.get("KeyCount", count) != count:
        wrong = f"is a page of a listing that says {answer['KeyCount']:,} keys but has {count:,}"
    elif not all("Key" in item and "Size" in item and "LastModified" in item for item in items):
        wrong = "is a page of a listing with objects that lack their key, size or time"
    else:
        return page
    raise TransientError(ErrorCode.STORAGE_ERROR, f"what {endpoint} answered {wrong}")


def pages(
    ask: Ask, request: "ListObjectsV2RequestTypeDef", after: str, ordered: bool, census: Census
) -> Iterator[list[StoredObject]]:
    """Pages of the objects that `request` names and that sort behind `after`. "Folders" of consoles are left out.

    Args:
        ask: gives one page. Raises `TransientError` where asking again may help.
        request: bucket and prefix.
        after: a key; "": all.
        ordered: whether the store promises to list keys in order. Then one that does not is an error.
        census: what the pages say of how many objects they hold is added here.

    Raises:
        StorageError: a page does not come, or the listing cannot be right: keys out of order, pages that come twice, tokens
            that lead in a circle.
    """
    prefix = request.get("Prefix", "")
    where = f"the listing of s3://{request['Bucket']}/{prefix}"
    if after and ordered:
        request["StartAfter"] = after
    last, empty = after, 0
    seen: set[int] = set()
    while True:
        page = retried(lambda: ask(request))
        items = page.get("Contents", [])
        keys = [item["Key"] for item in items]
        for key in keys:
            if not key.startswith(prefix):
                raise _broken(f"{where} holds the key {key!r}, which does not start with that")
            if ordered:
                if key <= last:
                    text = f"{where} has the key {key!r} after {last!r}, although S3 lists keys in order"
                    raise _broken(f"{text}: objects may be missing from it; name them in a manifest instead")
                last = key
        if keys and _known(seen, (keys[0], keys[-1], len(keys))):
            raise _broken(f"{where} repeats the page that starts with {keys[0]!r}")
        found = [_stored(item) for item in items if (item["Size"] or not item["Key"].endswith("/")) and item["Key"] > after]
        census.objects += page.get("KeyCount", len(items)) - (len(items) - len(found))
        if found:
            yield found
        if not page["IsTruncated"]:
            return
        token = page["NextContinuationToken"]
        empty = 0 if keys else empty + 1
        if _known(seen, token):
            raise _broken(f"{where} goes in circles: a token for the next page is repeated")
        if empty > EMPTY_PAGES:
            raise _broken(f"{where} does not end: {empty:,} pages in a row have no objects")
        request["ContinuationToken"] = token


def _stored(item: "ObjectTypeDef") -> StoredObject:
    modified = item["LastModified"].astimezone(UTC)
    return StoredObject(item["Key"], entity_tag(item.get("ETag")) or made_tag(item["Size"], modified), item["Size"], modified)


def _known(seen: set[int], mark: object) -> bool:
    """Whether it was seen before; 8 bytes of it are remembered."""
    number = hash(mark)
    if number in seen:
        return True
    seen.add(number)
    return False


def _broken(text: str) -> StorageError:
    return StorageError(ErrorCode.STORAGE_ERROR, text)

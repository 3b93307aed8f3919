"""Where a listing in key order may be cut, so that its ranges can be listed at the same time.

A cut is any text: wherever it is, every key lies in one range. How even the ranges are decides only how fast it goes.
"""

from typing import TYPE_CHECKING

from moderation.errors import StorageError
from moderation.storage.retrying import retried
from moderation.storage.s3_listing import Ask

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestTypeDef

RANGES = 32
"""at most, of folders that are all known"""
LEVELS = 8
"""folders that lie in one another, each the only one, which are looked into"""
_DIGITS = "0123456789abcdef"
"""Names that nobody chose begin with these, about as often with each."""


def cuts(ask: Ask, request: "ListObjectsV2RequestTypeDef", after: str) -> list[str]:
    """Texts behind `after` at which to cut the listing that `request` asks for, in order; none if there is no reason to.

    Costs as many requests as there are folders that hold nothing but one folder, and one more.
    """
    folder = request.get("Prefix", "")
    try:
        for _ in range(LEVELS):
            page = retried(lambda: ask({**request, "Prefix": folder, "Delimiter": "/"}))  # noqa: B023 - called at once
            folders = [found["Prefix"] for found in page.get("CommonPrefixes", [])]
            if len(folders) != 1 or page["IsTruncated"] or page.get("Contents"):
                break
            folder = folders[0]
    except StorageError:  # who may list a prefix may not be allowed to ask for its folders; if not, listing says why
        return []
    found = _some(folders)
    if page["IsTruncated"]:  # there are more names than are known
        last = folders[-1] if folders else ""
        found += [folder + digit for digit in _DIGITS if folder + digit > last]
    return [cut for cut in found if cut > after]


def _some(folders: list[str]) -> list[str]:
    """As many of the folders as there may be ranges, evenly spread."""
    step = -(-len(folders) // RANGES) or 1
    return folders[::step]

"""What names the objects of a run: a folder, a manifest, or an S3 Inventory."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from moderation.records import ObjectRef
from moderation.storage import Census


class Source(Protocol):
    """A stream of objects, one page in memory at a time."""

    uri: str
    """the folder, or the file that lists the objects"""
    version: str
    """ETag of the file that lists the objects, which must not change while a run lasts; empty for a folder"""

    @property
    def is_fixed(self) -> bool:
        """Whether this is a file that lists objects: always the same ones in the same order, some of them twice perhaps."""
        ...

    @property
    def is_ordered(self) -> bool:
        """Whether the same objects come in the same order each time: a fixed list, or a store that promises key order."""
        ...

    def parts(self, after: str = "") -> "Sequence[Source]":
        """Sources that name the same objects one after the other, in the same order, and can be listed at the same time.

        `after` is what each of them is listed with. Raises `SourceError` or `StoreDownError`, as listing does.
        """
        ...

    def list(self, after: str = "", census: Census | None = None) -> Iterator[list[ObjectRef]]:
        """Pages of objects. A folder begins behind the URI `after`, in key order if ordered; a fixed list begins at its start.

        How many objects the store, or the file, says that it names is added to `census`.

        An object whose `etag` is empty is known by name only: its size and time say nothing.

        Raises:
            SourceError: the listing cannot be right, or the file is not what it should be.
            StoreDownError: the store of a folder does not answer.
        """
        ...

    def key_of(self, uri: str) -> str:
        """What patterns are matched against: the key below the folder, or the key in its bucket."""
        ...

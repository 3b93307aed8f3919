"""A folder or a prefix of a bucket as a source."""

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise

from moderation.errors import SourceError, StorageError, StoreDownError
from moderation.records import ObjectRef
from moderation.storage import Census, Skipped, Store
from moderation.storage.retrying import TransientError

_END = ""
"""of a range that nothing limits"""


class FolderSource:
    """Everything under one URI."""

    version = ""
    is_fixed = False

    def __init__(self, location: str, connections: int = 16) -> None:
        """Raises `SourceError` if there is nothing to list."""
        try:
            self.store = Store(location, connections)
            self.store.check_readable()
        except StorageError as error:
            raise SourceError(f"cannot list the source {location!r}: {error.detail}") from None
        self.uri = self.store.uri
        self._behind, self._until = "", _END

    @property
    def is_ordered(self) -> bool:
        """Whether the store guarantees to list in key order."""
        return self.store.ordered

    def parts(self, after: str = "") -> "Sequence[FolderSource]":
        """Ranges of keys, where the store promises their order and knows where to cut."""
        cuts = [self.store.uri_of(cut) for cut in self.store.cuts(self._key_after(after))]
        parts = []
        for behind, until in pairwise(["", *cuts, _END]):
            part = copy.copy(self)
            part._behind, part._until = behind, until
            parts.append(part)
        return parts

    def list(self, after: str = "", census: Census | None = None) -> Iterator[list[ObjectRef]]:
        """Pages of objects after the URI `after`. Objects listed so far stay valid.

        Raises:
            SourceError: the listing failed, or cannot be right.
            StoreDownError: the store does not answer.
        """
        census = Census() if census is None else census
        try:
            for page in self.store.list(after=self._key_after(max(after, self._behind)), census=census):
                if page[-1].uri <= self._until or self._until == _END:
                    yield page
                    continue
                kept = [item for item in page if item.uri <= self._until]
                census.objects -= len(page) - len(kept)
                if kept:
                    yield kept
                return
        except TransientError as error:
            raise StoreDownError(f"the store of {self.uri} is down, the listing cannot continue: {error.detail}") from None
        except StorageError as error:
            raise SourceError(f"listing {self.uri} failed: {error.detail}") from None

    def _key_after(self, uri: str) -> str:
        return self.store.key_of(uri) if uri else ""

    def skipped(self) -> Skipped:
        """What is in a local folder but not listed."""
        return self.store.skipped()

    def key_of(self, uri: str) -> str:
        """The key below the folder."""
        return self.store.key_of(uri)

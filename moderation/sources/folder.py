"""A folder or a prefix of a bucket as a source."""

from collections.abc import Iterator

from moderation.errors import SourceError, StorageError, StoreDownError
from moderation.records import ObjectRef
from moderation.storage import Census, Skipped, Store
from moderation.storage.retrying import TransientError


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

    @property
    def is_ordered(self) -> bool:
        """Whether the store guarantees to list in key order."""
        return self.store.ordered

    def list(self, after: str = "", census: Census | None = None) -> Iterator[list[ObjectRef]]:
        """Pages of objects after the URI `after`. Objects listed so far stay valid.

        Raises:
            SourceError: the listing failed, or cannot be right.
            StoreDownError: the store does not answer.
        """
        try:
            yield from self.store.list(after=self.store.key_of(after) if after else "", census=census)
        except TransientError as error:
            raise StoreDownError(f"the store of {self.uri} is down, the listing cannot continue: {error.detail}") from None
        except StorageError as error:
            raise SourceError(f"listing {self.uri} failed: {error.detail}") from None

    def skipped(self) -> Skipped:
        """What is in a local folder but not listed."""
        return self.store.skipped()

    def key_of(self, uri: str) -> str:
        """The key below the folder."""
        return self.store.key_of(uri)

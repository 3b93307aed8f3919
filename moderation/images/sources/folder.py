"""A folder or a prefix of a bucket as a source."""

from collections.abc import Iterator

from moderation.errors import SourceError, StorageError
from moderation.records import ObjectRef
from moderation.storage import Store


class FolderSource:
    """Everything under one URI, in key order."""

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

    def list(self, after: str = "") -> Iterator[list[ObjectRef]]:
        """Pages of objects behind the URI `after`. Raises `SourceError`; what was listed so far stays valid."""
        try:
            yield from self.store.list(after=self.store.key_of(after) if after else "")
        except StorageError as error:
            raise SourceError(f"listing {self.uri} broke off: {error.detail}") from None

    def key_of(self, uri: str) -> str:
        """The key below the folder."""
        return self.store.key_of(uri)

"""From a source to a stream of objects, each once."""

from collections.abc import Iterator

from moderation.errors import SourceError, StorageError
from moderation.records import ObjectRef
from moderation.storage import Store


def list_objects(source: Store, after: str = "") -> Iterator[list[ObjectRef]]:
    """Pages of the objects under `source` in key order, those behind the URI `after` only.

    Raises:
        SourceError: the listing broke off; what was listed so far stays valid.
    """
    try:
        yield from source.list(after=source.key_of(after) if after else "")
    except StorageError as error:
        raise SourceError(f"listing {source.uri} broke off: {error.detail}") from None

"""Objects behind obstore: S3, Google Cloud Storage, Azure, and memory for tests."""

from collections.abc import Iterator
from pathlib import Path

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from moderation.errors import ErrorCode, StorageError
from moderation.storage.backend import StoredObject


class ObstoreBackend:
    """One bucket or container through obstore, which retries 5xx, time-outs and resets with backoff and jitter."""

    def __init__(self, root: str, store: S3Store | GCSStore | AzureStore | MemoryStore) -> None:
        self.root = root
        self._store = store

    def list(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Pages of up to 1,000 objects. obstore matches whole path segments; what is asked for here is text."""
        folder = prefix.rpartition("/")[0]
        try:
            for page in obstore.list(self._store, folder or None, offset=after or None, chunk_size=1000):
                found = [
                    StoredObject(meta["path"], meta["e_tag"] or "", meta["size"], meta["last_modified"])
                    for meta in page
                    if meta["path"].startswith(prefix) and meta["path"] > after
                ]
                if found:
                    yield sorted(found)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise translated(error) from None

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object; bodies cut short are fetched again by obstore."""
        try:
            options: obstore.GetOptions = {"if_match": if_match} if if_match else {}
            return bytes(obstore.get(self._store, key, options=options).bytes())
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise translated(error) from None

    def head(self, key: str) -> StoredObject:
        """What a listing would say of one object."""
        try:
            meta = obstore.head(self._store, key)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise translated(error) from None
        return StoredObject(key, meta["e_tag"] or "", meta["size"], meta["last_modified"])

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write an object; large ones in parts, which become visible together."""
        try:
            obstore.put(
                self._store,
                key,
                data,
                mode="create" if create_only else "overwrite",
                use_multipart=False if create_only else None,
            )
        except (exceptions.AlreadyExistsError, FileExistsError):
            raise FileExistsError(f"{self.root}/{key} exists already") from None
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise translated(error) from None

    def copy(self, source: str, target: str) -> None:
        """Copy within the bucket, without bringing the bytes here."""
        try:
            obstore.copy(self._store, source, target)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise translated(error) from None

    def delete(self, key: str) -> None:
        """Remove an object."""
        try:
            obstore.delete(self._store, key)
        except (exceptions.NotFoundError, FileNotFoundError):
            return
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise translated(error) from None


def translated(error: BaseException) -> StorageError:
    """Obstore's exception as one line with a code; its own text runs over a page of debug output."""
    text = str(error).split("\n\nDebug source:")[0]
    first_line = " ".join(text.split())[:300]
    if isinstance(error, exceptions.NotFoundError | FileNotFoundError):
        return StorageError(ErrorCode.NOT_FOUND, "no such object")
    if isinstance(error, exceptions.PreconditionError):
        return StorageError(ErrorCode.CHANGED, "the object changed after listing: its etag is another now")
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError | PermissionError):
        return StorageError(ErrorCode.ACCESS_DENIED, first_line)
    return StorageError(ErrorCode.STORAGE_ERROR, first_line)

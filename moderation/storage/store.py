"""`Store`: the objects under one URI."""

import io
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from obstore.store import AzureStore, GCSStore, MemoryStore

from moderation.errors import ErrorCode, StorageError
from moderation.records import ObjectRef
from moderation.storage.backend import Backend, StoredObject
from moderation.storage.cloud import ObstoreBackend
from moderation.storage.local import LocalBackend
from moderation.storage.s3 import S3Backend

__all__ = ["Store", "StoredObject", "scheme_of"]

SCHEMES = ("file", "s3", "gs", "az", "memory")


class Store:
    """Objects under a URI: a folder, `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://container/prefix`, `memory://name`.

    Keys are relative to that URI and taken as exact text. A prefix is a folder: `s3://b/cats` holds `cats/1.jpg`, not
    `cats2/1.jpg`. Everything raises `StorageError`, whose `code` and `retryable` say what to do.
    """

    def __init__(self, uri: str) -> None:
        self._backend, prefix = _open(uri)
        self._prefix = f"{prefix}/" if prefix else ""
        self.uri = f"{self._backend.root}/{prefix}" if prefix else self._backend.root

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        # A path is taken as it is; in a URI, "%41" may be an "A" that someone escaped.
        local = isinstance(self._backend, LocalBackend)
        return (Store, (self.uri.removeprefix("file://") or "/" if local else self.uri,))

    @classmethod
    def locate(cls, uri: str) -> tuple["Store", str]:
        """The store and the key of one object, wherever it is."""
        if scheme_of(uri) == "file":
            folder, _, name = uri.rpartition("/")
            return cls(folder or "/"), name
        bucket, _, key = uri.split("://", 1)[1].partition("/")
        return cls(f"{scheme_of(uri)}://{bucket}"), key

    def uri_of(self, key: str) -> str:
        """The full URI of a key."""
        return f"{self.uri}/{key}"

    def key_of(self, uri: str) -> str:
        """The key of a URI under this store; any other URI is refused."""
        if not uri.startswith(self.uri + "/"):
            raise StorageError(ErrorCode.ACCESS_DENIED, f"{uri!r} does not lie under {self.uri}")
        return uri[len(self.uri) + 1 :]

    def list(self, prefix: str = "", after: str = "") -> Iterator[list[ObjectRef]]:
        """Pages of objects in key order, those behind `after` only. Memory holds one page at a time."""
        for page in self._backend.list(self._prefix + prefix, self._prefix + after if after else ""):
            yield [ObjectRef(f"{self._backend.root}/{o.key}", o.etag, o.size, o.last_modified) for o in page]

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object; if it is not the version `if_match`, the error's code is `changed`."""
        return self._backend.get(self._prefix + key, if_match)

    def open(self, key: str, etag: str = "") -> BinaryIO:
        """The object as a seekable file, at the version `etag` if one is given. Reads what is asked for, in large pieces."""
        return io.BytesIO(self.get(key, etag or None))

    def read(self, item: ObjectRef) -> bytes:
        """The object at the version that was listed."""
        return self.get(self.key_of(item.uri), item.etag)

    def head(self, key: str) -> ObjectRef:
        """One object, as listing gives it."""
        found = self._backend.head(self._prefix + key)
        return ObjectRef(self.uri_of(key), found.etag, found.size, found.last_modified)

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            self.head(key)
        except StorageError as error:
            if error.code is ErrorCode.NOT_FOUND:
                return False
            raise
        return True

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write bytes, or a local file, whole or not at all. `create_only`: `FileExistsError` if it exists."""
        self._backend.put(self._prefix + key, data, create_only)

    def copy(self, source: str, target: str) -> None:
        """Copy an object within this store, overwriting."""
        self._backend.copy(self._prefix + source, self._prefix + target)

    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""
        self._backend.delete(self._prefix + key)

    def delete_folder(self, prefix: str) -> None:
        """Remove every object whose key starts with `prefix`."""
        for page in self.list(prefix):
            for item in page:
                self.delete(self.key_of(item.uri))

    def check_readable(self) -> None:
        """Raise a `StorageError` if there is nothing here to list, saying why."""
        if isinstance(self._backend, S3Backend):
            self._backend.probe()
        if next(self.list(), None) is None:
            raise StorageError(ErrorCode.NOT_FOUND, f"there are no objects under {self.uri}")

    def check_writable(self) -> None:
        """Raise a `StorageError` unless this store can be written and honours create-only writes. Leaves nothing behind."""
        if isinstance(self._backend, S3Backend):
            self._backend.probe()
        key = f"_staging/probe-{uuid.uuid4().hex}"
        self.put(key, b"", create_only=True)
        try:
            self.put(key, b"", create_only=True)
        except FileExistsError:
            return
        finally:
            self.delete(key)
        raise StorageError(ErrorCode.STORAGE_ERROR, f"{self.uri} ignores conditional writes (If-None-Match)")


def scheme_of(location: str) -> str:
    """The scheme of a URI; `file` for plain paths."""
    scheme, separator, _ = location.partition("://")
    return scheme.lower() if separator and scheme.isalnum() else "file"


def _open(uri: str) -> tuple[Backend, str]:
    scheme = scheme_of(uri)
    if scheme == "file":
        return LocalBackend(_local_path(uri)), ""
    bucket, _, prefix = uri.split("://", 1)[1].partition("/")
    if scheme not in SCHEMES or not bucket:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise StorageError(ErrorCode.NOT_FOUND, f"cannot read {uri!r}: give a folder, or a URI that starts with {known}")
    return _bucket(scheme, bucket), prefix.strip("/")


def _local_path(uri: str) -> Path:
    if not uri.lower().startswith("file://"):
        return Path(uri).expanduser()
    # A URI this program wrote holds the path as it is; others may have escaped it.
    path = uri.split("://", 1)[1] or "/"
    return Path(path) if Path(path).exists() else Path(unquote(urlsplit(uri).path))


@cache
def _bucket(scheme: str, bucket: str) -> Backend:
    root = f"{scheme}://{bucket}"
    if scheme == "s3":
        return S3Backend(bucket)
    if scheme == "gs":
        return ObstoreBackend(root, GCSStore(bucket))
    if scheme == "az":
        return ObstoreBackend(root, AzureStore(bucket))
    return ObstoreBackend(root, MemoryStore())

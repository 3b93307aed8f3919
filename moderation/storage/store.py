"""`Store`: the objects under one URI."""

import io
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeVar

from obstore.store import MemoryStore

from moderation.errors import ErrorCode, StorageError
from moderation.records import ObjectRef
from moderation.storage.azure import AzureBackend
from moderation.storage.backend import Backend, Census, Skipped, StoredObject
from moderation.storage.cloud import ObstoreBackend
from moderation.storage.entity_tags import is_same
from moderation.storage.files import BUFFER, ObjectFile, whole
from moderation.storage.gcs import GcsBackend
from moderation.storage.local import LocalBackend
from moderation.storage.outages import outage_of, read_through
from moderation.storage.own_listing import OwnListingBackend
from moderation.storage.raw_names import escaped, local_path
from moderation.storage.retrying import PROBE_PATIENCE, TransientError, continued, retried
from moderation.storage.s3 import S3Backend
from moderation.storage.s3_addresses import split_bucket

__all__ = ["Census", "Skipped", "Store", "StoredObject", "scheme_of"]

T = TypeVar("T")

SCHEMES = ("file", "s3", "gs", "az", "memory")


class Store:
    """Objects under a URI: a folder, `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://container/prefix`, `memory://name`.

    Keys are relative to that URI and taken as exact text. A prefix is a folder: `s3://b/cats` holds `cats/1.jpg`, not
    `cats2/1.jpg`. Everything raises `StorageError`, whose `code` and `retryable` say what to do.
    """

    def __init__(self, uri: str, connections: int = 16) -> None:
        self._backend, prefix = _open(uri, connections)
        self._prefix = f"{prefix}/" if prefix else ""
        self._connections = connections
        self.uri = f"{self._backend.root}/{prefix}" if prefix else self._backend.root

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def __reduce__(self) -> tuple[type["Store"], tuple[str, int]]:
        # A path is taken as it is; in a URI, "%41" may be an "A" that someone escaped.
        where = str(self._backend.folder) if isinstance(self._backend, LocalBackend) else self.uri
        return (Store, (where, self._connections))

    @classmethod
    def locate(cls, uri: str, connections: int = 16) -> tuple["Store", str]:
        """The store and the key of one object, by its URI or path."""
        if scheme_of(uri) == "file":
            folder, _, name = uri.rpartition("/")
            return cls(folder or "/", connections), name if uri.lower().startswith("file://") else escaped(name)
        bucket, key = split_bucket(uri.split("://", 1)[1])
        return cls(f"{scheme_of(uri)}://{bucket}", connections), key

    def uri_of(self, key: str) -> str:
        """The full URI of a key."""
        return f"{self.uri}/{key}"

    def key_of(self, uri: str) -> str:
        """The key of a URI under this store; any other URI is refused."""
        if not uri.startswith(self.uri + "/"):
            raise StorageError(ErrorCode.ACCESS_DENIED, f"{uri!r} is not under {self.uri}")
        return uri[len(self.uri) + 1 :]

    @property
    def ordered(self) -> bool:
        """Whether listings are sure to be in key order: not in S3 directory buckets, nor in other stores with an S3 API."""
        return self._backend.ordered if isinstance(self._backend, S3Backend | OwnListingBackend) else True

    def list(self, prefix: str = "", after: str = "", census: Census | None = None) -> Iterator[list[ObjectRef]]:
        """Pages of objects, in key order where `ordered`, those behind `after` only. Memory holds one page at a time.

        How many objects the store says that it listed is added to `census`.
        """
        behind = self._prefix + after if after else ""
        for page in _pages(self._backend, self._prefix + prefix, behind, Census() if census is None else census):
            yield [ObjectRef(f"{self._backend.root}/{o.key}", o.etag, o.size, o.last_modified) for o in page]

    def cuts(self, after: str = "") -> Sequence[str]:
        """Texts behind `after`, in order, between which keys can be listed at the same time; none if there is no reason to."""
        if not isinstance(self._backend, S3Backend):
            return ()
        return [cut.removeprefix(self._prefix) for cut in self._backend.cuts(self._prefix, self._prefix + after)]

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object; if it is not the version `if_match`, the error's code is `changed`."""
        return retried(lambda: self._backend.get(self._prefix + key, if_match))

    def open(self, key: str, etag: str = "") -> BinaryIO:
        """The object as a seekable file, fetched in large pieces as it is read, all of one version: `etag`, or today's.

        Reading raises `StorageError`, with the code `changed` if the object is another by then.
        """
        path = self._prefix + key
        found = retried(lambda: self._backend.head(path))
        if etag and not is_same(found.etag, etag):
            raise StorageError(
                ErrorCode.CHANGED, f"the object changed after listing: etag {etag!r:.80}, now {found.etag!r:.80}"
            )

        def fetch(start: int, length: int) -> bytes:
            return retried(lambda: whole(self._backend.get_range(path, start, length, found.etag or None), length))

        return io.BufferedReader(ObjectFile(fetch, found.size), BUFFER)

    def read(self, item: ObjectRef, patience: float | None = None) -> bytes:
        """The object at the listed version; without an ETag, at any version. With one, the size is checked as well.

        Temporary failures are retried for `patience` seconds; None: the default.
        """
        path = self._prefix + self.key_of(item.uri)
        if not item.etag:
            return retried(lambda: self._backend.get(path), patience)
        return retried(lambda: whole(self._backend.get(path, item.etag), item.size), patience)

    def watched(self, read: Callable[[float | None], T]) -> T:
        """What `read(patience)` returns. Raises `StoreDownError` when the store no longer responds."""
        return read_through(outage_of(self._backend.root), read, self._ask)

    def _ask(self) -> None:
        """Ask for an object that does not exist. Raises `TransientError` if there is no answer, not even a refusal."""
        try:
            self._backend.get(f"{self._prefix}probe-{uuid.uuid4().hex}")
        except TransientError:
            raise
        except StorageError:
            return

    def head(self, key: str, patience: float | None = None) -> ObjectRef:
        """One object, as listing gives it."""
        found = retried(lambda: self._backend.head(self._prefix + key), patience)
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
        """Write bytes, or a local file, whole or not at all.

        `create_only`: `FileExistsError` if there is such an object with other bytes. The same bytes may have come from
        this very call, when the store's answer was lost and the call made again.
        """
        path = self._prefix + key
        retried(lambda: self._create(path, data) if create_only else self._backend.put(path, data))

    def copy(self, source: str, target: str) -> None:
        """Copy an object within this store, overwriting."""
        retried(lambda: self._backend.copy(self._prefix + source, self._prefix + target))

    def add_tags(self, key: str, tags: Mapping[str, str], etag: str = "", patience: float | None = None) -> None:
        """Add tags to an object in S3, of one version if `etag` is given; its other tags stay. `patience` as for `read`."""
        backend = self._backend
        if not isinstance(backend, S3Backend):
            raise StorageError(ErrorCode.STORAGE_ERROR, f"only objects in s3:// have tags, and this is {self.uri}")
        retried(lambda: backend.add_tags(self._prefix + key, tags, etag), patience)

    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""
        retried(lambda: self._backend.delete(self._prefix + key))

    def delete_folder(self, prefix: str) -> None:
        """Remove every object whose key starts with `prefix`."""
        for page in self.list(prefix):
            for item in page:
                self.delete(self.key_of(item.uri))

    def check_readable(self) -> None:
        """Raise a `StorageError`, which says why and what to do, if there is nothing to list."""
        self._probe()
        if next(self.list(), None) is None:
            text = f"there are no objects under {self.uri}"
            left_out = self.skipped()
            hint = f" ({left_out} skipped: name a linked folder as a source)" if any(left_out) else ""
            raise StorageError(ErrorCode.NOT_FOUND, text + hint)

    def skipped(self) -> Skipped:
        """What is in a local folder but not listed."""
        return self._backend.skipped() if isinstance(self._backend, LocalBackend) else Skipped()

    def check_writable(self) -> None:
        """Raise a `StorageError` unless this store can be written and honours create-only writes. Leaves nothing behind."""
        self._probe()
        key = f"_staging/probe-{uuid.uuid4().hex}"
        self.put(key, b"first", create_only=True)
        try:
            self.put(key, b"second", create_only=True)
        except FileExistsError:
            return
        finally:
            self.delete(key)
        text = "ignores conditional writes (If-None-Match), without which two runs can overwrite each other: use another store"
        raise StorageError(ErrorCode.STORAGE_ERROR, f"{self.uri} {text}")

    def _probe(self) -> None:
        backend = self._backend
        if isinstance(backend, S3Backend | OwnListingBackend):
            retried(lambda: backend.probe(self._prefix), PROBE_PATIENCE)

    def _create(self, path: str, data: bytes | Path) -> None:
        try:
            self._backend.put(path, data, create_only=True)
        except FileExistsError:
            try:
                if self._holds(path, data):
                    return
            except StorageError as error:
                if error.code is not ErrorCode.NOT_FOUND:
                    raise
                text = f"{self._backend.root}/{path} keeps appearing and disappearing: somebody else is writing it"
                raise TransientError(ErrorCode.STORAGE_ERROR, text) from None
            raise

    def _holds(self, path: str, data: bytes | Path) -> bool:
        key = path.removeprefix(self._prefix)
        with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as ours, self.open(key) as theirs:
            while piece := ours.read(BUFFER):
                if theirs.read(len(piece)) != piece:
                    return False
            return not theirs.read(1)


def _pages(backend: Backend, prefix: str, after: str, census: Census) -> Iterator[list[StoredObject]]:
    if isinstance(backend, S3Backend | OwnListingBackend):  # asks for its pages again by itself
        yield from backend.list(prefix, after, census)
        return
    for page in continued(lambda last: backend.list(prefix, last), after):
        census.objects += len(page)
        yield page


def scheme_of(location: str) -> str:
    """The scheme of a URI; `file` for plain paths."""
    scheme, separator, _ = location.partition("://")
    return scheme.lower() if separator and scheme.isalnum() else "file"


def _open(uri: str, connections: int) -> tuple[Backend, str]:
    scheme = scheme_of(uri)
    if scheme == "file":
        return LocalBackend(_local_path(uri)), ""
    bucket, prefix = split_bucket(uri.split("://", 1)[1])
    if scheme not in SCHEMES or not bucket:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise StorageError(ErrorCode.NOT_FOUND, f"cannot read {uri!r}: give a folder, or a URI that starts with {known}")
    return _bucket(scheme, bucket, connections), prefix.strip("/")


def _local_path(uri: str) -> Path:
    if not uri.lower().startswith("file://"):
        return Path(uri).expanduser()
    return Path(local_path(uri))


@cache
def _bucket(scheme: str, bucket: str, connections: int) -> Backend:
    if scheme == "s3":
        return S3Backend(bucket, connections)
    if scheme == "gs":
        return GcsBackend(bucket, connections)
    if scheme == "az":
        return AzureBackend(bucket, connections)
    return _memory(bucket)


@cache
def _memory(name: str) -> Backend:
    return ObstoreBackend(f"memory://{name}", MemoryStore())

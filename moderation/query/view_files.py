"""The files of published runs as DuckDB opens them: by path on this machine, through the `Store` elsewhere."""

import io
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem

from moderation.errors import OutputError, StorageError
from moderation.records import ObjectRef
from moderation.results.schemas import Table
from moderation.storage import Store

PROTOCOL = "results"
"""What stands before keys of files in a bucket, for DuckDB to know whom to ask."""

_PATH = re.compile(r"(?:decisions|scores|embeddings/model=[^/]+)/date=\d{4}-\d\d-\d\d/run=[^/]+/[^/]+\.parquet")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One Parquet file that is part of the results."""

    path: str
    """as DuckDB opens it"""
    key: str
    """relative to the output"""
    bytes: int

    @classmethod
    def listed(cls, output: Store, item: ObjectRef) -> "PublishedFile":
        """A file of a table that no manifest names, as it was listed."""
        key = output.key_of(item.uri)
        return cls(_path(output, key), key, item.size)

    @classmethod
    def find(cls, output: Store, table: Table, key: str, size: int) -> "PublishedFile":
        """Raises `OutputError` for a key that no run of this program publishes: it could lead anywhere."""
        if not _PATH.fullmatch(key) or not key.startswith(f"{table}/"):
            raise OutputError(f"a manifest in {output.uri} names {key!r} as a file of {table}, but such files are never there")
        return cls(_path(output, key), key, size)


def _path(output: Store, key: str) -> str:
    scheme, _, local = output.uri_of(key).partition("://")
    return local if scheme == "file" else f"{PROTOCOL}://{key}"


class StoreFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec is not typed
    """Objects of a `Store` for DuckDB, which reads what it needs of them in several threads. They cannot be written."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, output: Store, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self._output = output
        self._sizes = sizes

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path, taken word for word, and not looked up: a manifest names it."""
        return [path] if self._key(path) in self._sizes else []

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What a manifest says of the file."""
        return {"name": path, "size": self._sizes[self._key(path)], "type": "file"}

    def size(self, path: str) -> int:
        """Bytes."""
        return self._sizes[self._key(path)]

    def modified(self, _path: str) -> datetime:
        """The same for all: published files do not change."""
        return datetime(1970, 1, 1, tzinfo=UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> "SharedFile":
        """The file, for reading."""
        if mode != "rb":
            raise PermissionError(f"results are read-only, but {path} was opened as {mode}")
        try:
            return SharedFile(self._output.open(self._key(path)))
        except StorageError as error:
            raise OSError(f"cannot read {self._output.uri_of(self._key(path))}: {error.detail}") from None

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{PROTOCOL}://")


class SharedFile:
    """A file that several threads read at once, each at a place of its own."""

    def __init__(self, file: BinaryIO) -> None:
        # Without the large buffer: DuckDB joins what it needs into few reads itself, and knows what that is.
        self._file = file.detach() if isinstance(file, io.BufferedReader) else file
        self._lock = threading.Lock()
        self._place = threading.local()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, in this thread."""
        with self._lock:
            base = self.tell() if whence == io.SEEK_CUR else 0
            self._place.at = self._file.seek(base + offset, io.SEEK_SET if whence == io.SEEK_CUR else whence)
        return self.tell()

    def tell(self) -> int:
        """This thread's place."""
        return getattr(self._place, "at", 0)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from this thread's place."""
        try:
            with self._lock:
                self._file.seek(self.tell())
                data: bytes = self._file.read(size)
        except StorageError as error:
            raise OSError(str(error)) from None
        self._place.at = self.tell() + len(data)
        return data

    def close(self) -> None:
        """Let go of it."""
        self._file.close()

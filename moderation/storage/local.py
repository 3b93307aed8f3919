"""Files on this machine.

Written on the standard library: obstore's local store refuses names with control characters and stops listing
at the first name that is not UTF-8, and every listed object must be accounted for.
"""

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from moderation.errors import ErrorCode, StorageError
from moderation.storage.backend import StoredObject

PAGE = 1000


class LocalBackend:
    """Files under a folder. Links are followed to files inside the folder only, never out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.root = "file://" + str(self.folder).rstrip("/")
        self._existed = next(path for path in (self.folder, *self.folder.parents) if path.exists())

    def list(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Pages of files in key order; folders that cannot be opened raise."""
        page: list[StoredObject] = []
        for item in self._walk("", prefix):
            if item.key > after and item.key.startswith(prefix):
                page.append(item)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole file, or `changed` if its ETag is another."""
        try:
            with open(self._path(key), "rb") as file:
                found = _etag(os.fstat(file.fileno()))
                if if_match is not None and found != if_match:
                    raise StorageError(ErrorCode.CHANGED, f"the file changed after listing: etag {if_match}, now {found}")
                return file.read()
        except OSError as error:
            raise _storage_error(error) from None

    def head(self, key: str) -> StoredObject:
        """What a listing would say of one file."""
        try:
            return _stored(key, self._path(key).stat())
        except OSError as error:
            raise _storage_error(error) from None

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write beside the target, flush to disk, then move into place."""
        target = self._path(key)
        partial = target.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(partial, "xb") as file:
                    if isinstance(data, Path):
                        with open(data, "rb") as source:
                            shutil.copyfileobj(source, file, 1 << 20)
                    else:
                        file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if create_only:
                    os.link(partial, target)
                else:
                    os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)
        except FileExistsError:
            if create_only and target.exists():
                raise FileExistsError(f"{self.root}/{key} exists already") from None
            raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot write {target}: a file stands in the way") from None
        except OSError as error:
            raise _storage_error(error) from None

    def copy(self, source: str, target: str) -> None:
        """Copy a file within the folder."""
        self.put(target, self._path(source))

    def delete(self, key: str) -> None:
        """Remove a file, and the folders above it that this program made and that are empty now."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _storage_error(error) from None
        with contextlib.suppress(OSError):
            for parent in path.parents:
                if parent == self._existed:
                    break
                parent.rmdir()

    def _path(self, key: str) -> Path:
        if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
            raise StorageError(ErrorCode.NOT_FOUND, f"no file can have the key {key!r}")
        path = self.folder / key
        if not path.resolve().is_relative_to(self.folder):
            raise StorageError(ErrorCode.ACCESS_DENIED, f"{key!r} is a link that leads out of {self.folder}")
        return path

    def _walk(self, folder: str, prefix: str) -> Iterator[StoredObject]:
        # Sorted as keys are: a folder sorts as "name/", so that resuming behind a key works.
        try:
            with os.scandir(self.folder / folder) as scan:
                entries = sorted((_key(folder, entry), entry) for entry in scan)
        except OSError as error:
            raise _storage_error(error) from None
        for key, entry in entries:
            if key.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(key, prefix)
                continue
            try:
                info = entry.stat()
            except OSError:
                info = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
                yield _stored(_printable(key), info)


def _key(folder: str, entry: os.DirEntry[str]) -> str:
    return folder + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")


def _stored(key: str, info: os.stat_result) -> StoredObject:
    modified = datetime.fromtimestamp(info.st_mtime_ns // 1000 / 1e6, UTC)
    return StoredObject(key, _etag(info), info.st_size, modified)


def _printable(key: str) -> str:
    # A name that is not UTF-8 cannot go to Parquet; it stays accounted for under its escaped name.
    return os.fsencode(key).decode("utf-8", "backslashreplace")


def _etag(info: os.stat_result) -> str:
    return f"{info.st_ino:x}-{info.st_mtime_ns:x}-{info.st_size:x}"


def _storage_error(error: OSError) -> StorageError:
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        code = ErrorCode.NOT_FOUND
    elif isinstance(error, PermissionError):
        code = ErrorCode.ACCESS_DENIED
    else:
        code = ErrorCode.STORAGE_ERROR
    return StorageError(code, f"{error.strerror or error}: {error.filename}" if error.filename else str(error))

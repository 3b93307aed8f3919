"""Files on this machine.

Written on the standard library: obstore's local store refuses names with control characters and stops listing
at the first name that is not UTF-8, and every listed object must be accounted for.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from moderation.errors import ErrorCode, StorageError
from moderation.storage.backend import StoredObject

PAGE = 1000
_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial")


class LocalBackend:
    """Files under a folder. Links are followed to files inside the folder only, never out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.root = "file://" + str(self.folder).rstrip("/")
        self._existed = next(path for path in (self.folder, *self.folder.parents) if path.exists())

    def list(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Pages of files in key order; folders that cannot be opened raise."""
        page: list[StoredObject] = []
        for item in self._walk(prefix):
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
            with open(self._path(key), "rb", opener=_open_now) as file:
                found = _etag(_regular(key, os.fstat(file.fileno())))
                if if_match is not None and found != if_match:
                    raise StorageError(ErrorCode.CHANGED, f"the file changed after listing: etag {if_match}, now {found}")
                return file.read()
        except OSError as error:
            raise _storage_error(error) from None

    def head(self, key: str) -> StoredObject:
        """What a listing would say of one file."""
        try:
            return _stored(key, _regular(key, self._path(key).stat()))
        except OSError as error:
            raise _storage_error(error) from None

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write beside the target, flush to disk, then move into place."""
        target = self._path(key)
        partial = target.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            try:
                with _create(partial) as file:
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
        except NotADirectoryError:
            raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot write {target}: a file stands in the way") from None
        except IsADirectoryError:
            raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot write {target}: a folder stands in the way") from None
        except OSError as error:
            raise _storage_error(error) from None

    def copy(self, source: str, target: str) -> None:
        """Copy a file within the folder."""
        self.put(target, self._path(source))

    def delete(self, key: str) -> None:
        """Remove a file, and the folders above it that this program made and that are empty now."""
        path = self._path(key)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            pass
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
        if not Path(os.path.realpath(path)).is_relative_to(self.folder):
            raise StorageError(ErrorCode.ACCESS_DENIED, f"{key!r} is a link that leads out of {self.folder}")
        return path

    def _walk(self, prefix: str) -> Iterator[StoredObject]:
        stack = [self._entries("")]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            key, raw, entry = found
            if raw.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    stack.append(self._entries(raw))
                continue
            info = _status(entry)
            if info and (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
                yield _stored(key, info)

    def _entries(self, folder: str) -> Iterator[tuple[str, str, os.DirEntry[str]]]:
        """What is in a folder, sorted as keys are: a folder sorts as "name/", so that resuming behind a key works."""
        try:
            with os.scandir(self.folder / folder) as scan:
                names = [(_raw_key(folder, entry), entry) for entry in scan if not _PARTIAL.fullmatch(entry.name)]
        except OSError as error:
            if folder and isinstance(error, FileNotFoundError):  # went away since its own folder was read
                return iter(())
            raise _storage_error(error) from None
        return iter(sorted((_printable(raw), raw, entry) for raw, entry in names))


def _raw_key(folder: str, entry: os.DirEntry[str]) -> str:
    return folder + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of what a link leads to, or of the link if that is nothing; None if the entry went away."""
    with contextlib.suppress(OSError):
        return entry.stat()
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _storage_error(error) from None


def _regular(key: str, info: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(info.st_mode):
        raise StorageError(ErrorCode.NOT_FOUND, f"{key!r} is a folder, a pipe or a device, not a file")
    return info


def _open_now(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for its writer


def _create(path: Path) -> BinaryIO:
    """A new file, and the folders above it, which a `delete` elsewhere may be taking away as empty at this moment."""
    for _ in range(100):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return open(path, "xb")
        except FileNotFoundError:
            continue
        except FileExistsError:
            # A folder that was there, and was gone when mkdir looked what it is; or really a file.
            if any(parent.exists() and not parent.is_dir() for parent in path.parents):
                raise
    raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot write {path}: its folder is taken away again and again")


def _stored(key: str, info: os.stat_result) -> StoredObject:
    modified = datetime.fromtimestamp(info.st_mtime_ns // 1000 / 1e6, UTC)
    return StoredObject(key, _etag(info), info.st_size, modified)


def _printable(key: str) -> str:
    # A name that is not UTF-8 cannot go to Parquet; it stays accounted for under its escaped name.
    return os.fsencode(key).decode("utf-8", "backslashreplace")


def _etag(info: os.stat_result) -> str:
    return f"{info.st_ino:x}-{info.st_mtime_ns:x}-{info.st_size:x}"


def _storage_error(error: OSError) -> StorageError:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    if missing or error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
        code = ErrorCode.NOT_FOUND
    elif isinstance(error, PermissionError):
        code = ErrorCode.ACCESS_DENIED
    else:
        code = ErrorCode.STORAGE_ERROR
    return StorageError(code, f"{error.strerror or error}: {error.filename}" if error.filename else str(error))

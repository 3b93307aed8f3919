"""Files on this machine.

Written on the standard library: obstore's local store refuses names with control characters and stops listing
at the first name that is not UTF-8, and every listed object must be accounted for.
"""

import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from moderation.common.safe_text import shortened, visible
from moderation.errors import ErrorCode, StorageError
from moderation.storage.backend import Skipped, StoredObject
from moderation.storage.local_listing import etag, skipped, storage_error, stored, walk
from moderation.storage.raw_names import file_uri, raw_name

PAGE = 1000
_PATH_MAX = 4096
"""bytes of a path, with the null byte at its end, that a call can take"""


class LocalBackend:
    """Files under a folder. Links are followed to files inside the folder only, never out of it."""

    def __init__(self, folder: Path) -> None:
        try:
            self.folder = folder.resolve()
            self._existed = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, links in a circle
            raise storage_error(error) from None
        self.root = file_uri(str(self.folder).rstrip("/"))

    def list(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Pages of files in key order; folders that cannot be opened raise."""
        page: list[StoredObject] = []
        for item in walk(self.folder, prefix, after):
            page.append(item)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    def skipped(self) -> Skipped:
        """What is in the folder but not listed."""
        return skipped(self.folder)

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole file, or the error `changed` if its ETag differs."""
        return self._read(key, if_match, 0, -1)

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """A part of the file, or the error `changed` if its ETag differs."""
        return self._read(key, if_match, start, length)

    def _read(self, key: str, if_match: str | None, start: int, length: int) -> bytes:
        try:
            with open(self._path(key), "rb", opener=_open_now) as file:
                info = _regular(key, os.fstat(file.fileno()))
                found = etag(info)
                if if_match is not None and found != if_match:
                    raise StorageError(ErrorCode.CHANGED, f"the file changed after listing: etag {if_match}, now {found}")
                file.seek(start)
                return file.read(info.st_size if length < 0 else length)  # files of /proc have no size, and may have no end
        except OSError as error:
            raise storage_error(error) from None

    def head(self, key: str) -> StoredObject:
        """One file as a listing would show it."""
        try:
            return stored(key, _regular(key, self._path(key).stat()))
        except OSError as error:
            raise storage_error(error) from None

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write beside the target, flush to disk, move into place, and flush that."""
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
            _flush_folder(target.parent)
        except FileExistsError:
            if create_only and target.is_file():
                raise FileExistsError(f"{self.root}/{key} already exists") from None
            what = "folder" if target.is_dir() else "file"
            raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot write {target}: a {what} has that name") from None
        except NotADirectoryError:
            raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot write {target}: a file has that name") from None
        except IsADirectoryError:
            raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot write {target}: a folder has that name") from None
        except OSError as error:
            raise storage_error(error) from None

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
            raise storage_error(error) from None
        with contextlib.suppress(OSError):
            for parent in path.parents:
                if parent == self._existed:
                    break
                parent.rmdir()

    def _path(self, key: str) -> Path:
        raw = raw_name(key)
        if raw is not None and len(os.fsencode(f"{self.folder}/{raw}")) >= _PATH_MAX:
            raise storage_error(OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), f"{self.folder}/{raw}"))
        if raw is None or "\0" in raw or any(part in ("", ".", "..") for part in raw.split("/")):
            raise StorageError(ErrorCode.NOT_FOUND, f"not a possible file name: {shortened(key)!r}")
        path = self.folder / raw
        if not Path(os.path.realpath(path)).is_relative_to(self.folder):
            raise StorageError(ErrorCode.ACCESS_DENIED, f"{key!r} is a link that points outside {self.folder}")
        return path


def _regular(key: str, info: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(info.st_mode):
        raise StorageError(ErrorCode.NOT_FOUND, f"{key!r} is a folder, a pipe or a device, not a file")
    return info


def _open_now(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for its writer


def _create(path: Path) -> BinaryIO:
    """A new file, and the folders above it, which a `delete` elsewhere may be taking away as empty at this moment."""
    made = False
    for _ in range(100):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = True
            return open(path, "xb")
        except FileNotFoundError:
            continue
        except FileExistsError:
            # A folder that was there, and was gone when mkdir looked what it is; or really a file.
            if any(_is_no_folder(parent) for parent in path.parents):
                raise
    why = "its folder keeps being removed" if made else "no folder can be created there"
    raise StorageError(ErrorCode.STORAGE_ERROR, f"cannot write {shortened(visible(str(path)))}: {why}")


def _is_no_folder(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _flush_folder(folder: Path) -> None:
    """Make files moved into a folder survive a power cut, if the file system supports it."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return  # what was written has been deleted since
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(opened)

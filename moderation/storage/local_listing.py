"""Listing files in key order, in flat memory, however many lie in one folder."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from moderation.common.safe_text import shortened, visible
from moderation.errors import ErrorCode, StorageError
from moderation.storage.backend import Skipped, StoredObject
from moderation.storage.raw_names import escaped

AT_ONCE = 200_000
"""names of one folder that are held in memory; a folder with more of them is read again for the next ones"""

TooLong = Literal["too long"]
TOO_LONG: TooLong = "too long"
"""of a path that the system cannot name in one call"""
_UNKNOWN = datetime.fromtimestamp(0, UTC)

PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial")
"""the names of files that are being written"""


def walk(root: Path, prefix: str, after: str) -> Iterator[StoredObject]:
    """The files under `root` whose key starts with `prefix` and sorts behind `after`, in key order.

    Raises:
        StorageError: a folder cannot be opened.
    """
    stack = [_entries(root, "", prefix, after)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        key, raw = found
        if raw.endswith("/"):
            stack.append(_entries(root, raw, prefix, after))
            continue
        info = _status(f"{root}/{raw}")
        if info == TOO_LONG:
            yield StoredObject(key, "", 0, _UNKNOWN)
        elif info is not None and (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
            yield stored(key, info)


def _entries(root: Path, folder: str, prefix: str, after: str) -> Iterator[tuple[str, str]]:
    """Keys and raw names of what is in a folder, sorted as keys are: a folder sorts as "name/"."""
    last = ("", "")
    while True:
        try:
            with os.scandir(root / folder) as scan:
                behind = (name for name in _named(folder, scan) if name > last)
                names = _smallest(name for name in behind if _wanted(name[0], prefix, after))
        except OSError as error:
            if folder and isinstance(error, FileNotFoundError):  # removed since its parent folder was read
                return
            if folder and error.errno == errno.ENAMETOOLONG:  # one row for all below it, which says why
                if escaped(folder) > after:
                    yield escaped(folder), folder.rstrip("/")
                return
            raise storage_error(error) from None
        yield from names
        if len(names) < AT_ONCE:
            return
        last = names[-1]


def _smallest(names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first `AT_ONCE` names in order: `heapq.nsmallest`, which takes six times as long for a million of them."""
    kept: list[tuple[str, str]] = []
    bound: tuple[str, str] | None = None
    for name in names:
        if bound is None or name < bound:
            kept.append(name)
        if len(kept) == 2 * AT_ONCE:
            kept.sort()
            del kept[AT_ONCE:]
            bound = kept[-1]
    kept.sort()
    return kept[:AT_ONCE]


def _named(folder: str, scan: Iterable[os.DirEntry[str]]) -> Iterator[tuple[str, str]]:
    for entry in scan:
        name = entry.name
        if name[0] == "." and PARTIAL.fullmatch(name):
            continue
        raw = f"{folder}{name}/" if entry.is_dir(follow_symlinks=False) else folder + name
        yield escaped(raw), raw


def _wanted(key: str, prefix: str, after: str) -> bool:
    """Whether a file, or something in a folder, may be asked for."""
    if key.endswith("/"):
        return (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key))
    return key.startswith(prefix) and key > after


def skipped(root: Path) -> Skipped:
    """What `walk` silently skips. Entries that cannot be examined are not counted."""
    linked = special = 0
    stack = [str(root)]
    while stack:
        with contextlib.suppress(OSError), os.scandir(stack.pop()) as scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        mode = os.stat(entry.path).st_mode  # noqa: PTH116 - as above
                        linked += stat.S_ISDIR(mode)
                        special += not stat.S_ISDIR(mode) and not stat.S_ISREG(mode)
    return Skipped(linked, special)


def _status(path: str) -> "os.stat_result | TooLong | None":
    """Of what a link leads to, or of the link if that is nothing; None if the entry went away."""
    with contextlib.suppress(OSError):
        return os.stat(path)  # noqa: PTH116 - a `Path` takes longer to make than the file to ask
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return TOO_LONG
        raise storage_error(error) from None


def stored(key: str, info: os.stat_result) -> StoredObject:
    """A file as an object."""
    modified = datetime.fromtimestamp(info.st_mtime_ns // 1000 / 1e6, UTC)
    return StoredObject(key, etag(info), info.st_size, modified)


def etag(info: os.stat_result) -> str:
    """A tag that changes whenever the file is rewritten."""
    return f"{info.st_ino:x}-{info.st_mtime_ns:x}-{info.st_size:x}"


def storage_error(error: OSError | ValueError | RuntimeError) -> StorageError:
    """An error of the operating system as one line with a code. None of them passes by waiting a little."""
    if not isinstance(error, OSError):
        return StorageError(ErrorCode.NOT_FOUND, shortened(visible(str(error))))
    missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    if missing or error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
        code = ErrorCode.NOT_FOUND
    elif isinstance(error, PermissionError):
        code = ErrorCode.ACCESS_DENIED
    else:
        code = ErrorCode.STORAGE_ERROR
    if error.filename is None:
        return StorageError(code, shortened(visible(str(error))))
    return StorageError(code, f"{error.strerror or error}: {shortened(visible(escaped(os.fsdecode(error.filename))))}")

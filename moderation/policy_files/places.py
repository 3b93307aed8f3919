"""Where what a policy names is: paths beside it, URIs, bundled pictures."""

import fnmatch
import glob
import os
from pathlib import Path

from moderation.demo import SCHEME, picture
from moderation.errors import ErrorCode, StorageError
from moderation.storage import Store

MAX_FILE = 256 << 20
"""Bytes of an image or a head: what is larger is none."""


class AssetError(Exception):
    """Why something that a policy names cannot be used. `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return self.message


def located(name: str, folder: Path) -> str:
    """The path or URI of what a policy in `folder` names."""
    if name.startswith(SCHEME):
        return str(picture(name))
    return name if "://" in name else str(folder / Path(name).expanduser())


def content(name: str, location: str, most: int = MAX_FILE) -> bytes:
    """The bytes of what a policy names, `most` of them. Raises `AssetError`."""
    try:
        store, key = Store.locate(location)
        found = store.head(key)
        if found.size > most:
            raise AssetError(f"{name!r} has {found.size:,} bytes, more than {most:,}")
        return store.get(key, found.etag or None)
    except StorageError as error:
        raise _refused(name, error) from None


def matching(pattern: str, folder: Path) -> list[tuple[str, str]]:
    """Names and locations of the files that a pattern with `*`, `?` or `[` matches, in order. Raises `AssetError`."""
    if "://" not in pattern or pattern.startswith(SCHEME):
        root = folder if not pattern.startswith(SCHEME) else picture(SCHEME)
        begin = SCHEME if pattern.startswith(SCHEME) else ""
        names = sorted(glob.glob(os.path.expanduser(pattern.removeprefix(begin)), root_dir=root, recursive=True))  # noqa: PTH111, PTH207 - which take names as they are
        return [(begin + name, str(root / name)) for name in names if (root / name).is_file()]
    fixed = pattern[: min(pattern.find(mark) for mark in "*?[" if mark in pattern)].rpartition("/")[0]
    try:
        store = Store(fixed)
        found = sorted(item.uri for page in store.list() for item in page)
    except StorageError as error:
        raise _refused(pattern, error) from None
    return [(uri, uri) for uri in found if fnmatch.fnmatchcase(uri, pattern) and uri.count("/") == pattern.count("/")]


def is_pattern(name: str) -> bool:
    """Whether a name stands for several files."""
    return any(mark in name for mark in "*?[")


def _refused(name: str, error: StorageError) -> AssetError:
    if error.code is ErrorCode.NOT_FOUND:
        return AssetError(f"there is no file {name!r}", "" if "://" in name else "paths are relative to the policy's folder")
    return AssetError(f"cannot read {name!r}: {error.detail}")

"""Where what a policy names is: paths beside it, URIs, bundled pictures."""

import fnmatch
import glob
import os
import posixpath
from pathlib import Path

from moderation.demo import SCHEME, picture
from moderation.errors import ErrorCode, StorageError
from moderation.storage import Store, scheme_of

MAX_FILE = 256 << 20
"""Bytes of an image or a head: what is larger is none."""
MAX_LISTED = 200_000
"""Objects that are listed for one pattern."""


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
    return name if "://" in name else str(folder / os.path.expanduser(name))  # noqa: PTH111 - an unknown ~user stays as it is


def beside(file: str, name: str) -> str:
    """What a file names, relative to what the file's own name is relative to."""
    if "://" in name or name.startswith(("/", "~")):
        return name
    folder, _, _ = file.rpartition("/")
    whole = f"{folder}/{name}" if folder else name
    return whole if "://" in whole else posixpath.normpath(whole)


def content(name: str, location: str, most: int = MAX_FILE) -> bytes:
    """The bytes of what a policy names, `most` of them. Raises `AssetError`."""
    if "\0" in location:
        raise AssetError(f"{name!r} is no name of a file")
    if location.endswith("/") or (scheme_of(location) == "file" and Path(location.removeprefix("file://")).is_dir()):
        raise AssetError(f"{name!r} is a folder", f"name the files in it, such as `{name.rstrip('/')}/*.jpg`")
    try:
        store, key = Store.locate(location)
        found = store.head(key)
        if found.size > most:
            raise AssetError(f"{name!r} has {found.size:,} bytes, more than {most:,}")
        return store.get(key, found.etag or None)
    except StorageError as error:
        raise _refused(name, error) from None


def matching(pattern: str, folder: Path) -> list[tuple[str, str]]:
    """Names and locations of the files that a pattern with `*`, `?` or `[` matches, in order.

    `*` and `?` match within a folder, `**` folders as well.

    Raises:
        AssetError: the store cannot be listed, or lists too much.
    """
    if "://" not in pattern or pattern.startswith(SCHEME):
        return _local(pattern, folder)
    fixed = pattern[: min(pattern.find(mark) for mark in "*?[" if mark in pattern)].rpartition("/")[0]
    if fixed.endswith(("://", ":/")):
        raise AssetError(f"{pattern!r} has a pattern for its bucket", "name the bucket")
    deep = "**" in pattern
    found: list[str] = []
    listed = 0
    try:
        for page in Store(fixed).list():
            listed += len(page)
            if listed > MAX_LISTED:
                hint = "name a folder with fewer, or list the images in a CSV file: `{images: file.csv}`"
                raise AssetError(f"{pattern!r}: there are more than {MAX_LISTED:,} objects to choose from", hint)
            found += [item.uri for item in page if fnmatch.fnmatchcase(item.uri, pattern)]
    except StorageError as error:
        raise _refused(pattern, error) from None
    return [(uri, uri) for uri in sorted(found) if deep or uri.count("/") == pattern.count("/")]


def is_pattern(name: str, folder: Path) -> bool:
    """Whether a name stands for several files: it has `*`, `?` or `[`, and is not that of a file."""
    if not any(mark in name for mark in "*?["):
        return False
    return ("://" in name and not name.startswith(SCHEME)) or not Path(located(name, folder)).is_file()


def _local(pattern: str, folder: Path) -> list[tuple[str, str]]:
    begin, root = ("", folder)
    if pattern.startswith(SCHEME):
        begin, root, pattern = SCHEME, picture(SCHEME), pattern.removeprefix(SCHEME)
    home = ""
    if pattern.startswith("~"):  # names stay the same whose home it is
        home = pattern.partition("/")[0]
        pattern = os.path.expanduser(pattern)  # noqa: PTH111
    whole = os.path.expanduser(home)  # noqa: PTH111
    names = sorted(glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207 - which takes names as they are
    files = [name for name in names if (root / name).is_file()]
    return [(begin + (home + name.removeprefix(whole) if home else name), str(root / name)) for name in files]


def _refused(name: str, error: StorageError) -> AssetError:
    if error.code is ErrorCode.NOT_FOUND:
        return AssetError(f"there is no file {name!r}", "" if "://" in name else "paths are relative to the policy's folder")
    return AssetError(f"cannot read {name!r}: {error.detail}")

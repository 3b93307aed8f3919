"""Entries for hash lists: hashes as people give them, and hashes of images."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from moderation.common.safe_text import visible
from moderation.errors import ImageError, SettingsError, StorageError
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import pdq
from moderation.lists.adding import NewEntry, UnknownLayoutError, append, as_line, find_layout, new_layout
from moderation.lists.entry_rows import looks_like_hash
from moderation.lists.hash_list import HashKind, HashList
from moderation.lists.lookup import ImageHashes
from moderation.lists.reading import ReadList, read_list
from moderation.storage import Store, file_uri


def read_file(path: Path, kind: HashKind, min_quality: int) -> ReadList:
    """Read a list file. Raises `SettingsError` if it cannot be read at all."""
    try:
        with path.open("rb") as stream:
            return read_list(stream, str(path), kind, min_quality)
    except OSError as error:
        raise SettingsError(f"cannot read {str(path)!r}: {(error.strerror or str(error)).lower()}") from None


def entry_of(given: str, kind: HashKind, label: str, min_quality: int) -> NewEntry:
    """The entry for a hash in hex digits, or for an image by its path or URI.

    Raises:
        SettingsError: it is neither, or a PDQ that would match unlike pictures.
    """
    if looks_like_hash(given):
        if len(given) != 2 * kind.size:
            raise SettingsError(f"{given} has {len(given)} hex digits; {kind.shown} hashes have {2 * kind.size}")
        return NewEntry(given.lower(), label)
    data = _content(given)
    if kind is not HashKind.PDQ:
        return NewEntry(hashlib.new(kind.value, data, usedforsecurity=False).hexdigest(), label)
    try:
        image = DecodedImage(data, ImageLimits())
        found = next((pdq(frame, image.colours) for index, frame in image.frames() if index == image.primary), None)
    except ImageError as error:
        raise SettingsError(f"{visible(given)!r} has no PDQ: {error}; a list of SHA-256 takes any file") from None
    if found is None:
        raise SettingsError(f"{visible(given)!r} has no frame")
    if found[1] < min_quality:
        raise SettingsError(
            f"the PDQ of {visible(given)!r} has a quality of {found[1]}, under {min_quality}: it would match unlike pictures; "
            "use a list of SHA-256 for it"
        )
    return NewEntry(found[0], label, found[1])


def image_hashes(location: str) -> ImageHashes:
    """All hashes that lists are matched with, of one image by its path or URI; of what cannot be decoded those of its bytes.

    Raises:
        SettingsError: it cannot be read.
    """
    data = _content(location)
    found, frames = list[tuple[str, int]](), list[int]()
    try:
        image = DecodedImage(data, ImageLimits())
        for index, frame in image.frames():
            found.append(pdq(frame, image.colours))
            frames.append(index)
    except ImageError:
        found, frames = [], []
    return ImageHashes(
        pa.array([hashlib.sha256(data).hexdigest()]),
        pa.array([hashlib.md5(data, usedforsecurity=False).hexdigest()]),
        pa.array([digest for digest, _ in found], pa.string()),
        pa.array([quality for _, quality in found], pa.int32()),
        np.array([0, len(found)], np.int64),
        np.array(frames, np.int32),
    )


def add_entries(path: Path, kind: HashKind, entries: Sequence[NewEntry], min_quality: int) -> int:
    """Add entries to a list file; one that is not there is made. Returns how many the list has then.

    Raises:
        SettingsError: the file has mistakes, an entry is in it already or twice among the new ones, or it cannot be written.
    """
    known: HashList | None = None
    layout = None
    try:
        if path.exists():
            layout = find_layout(path)
            if layout is not None and not (layout.titled and _only_header(path)):
                read = read_file(path, kind, min_quality)
                if read.content is None:
                    raise SettingsError("\n".join(str(error) for error in read.errors))
                known = read.content
        begin = ""
        if layout is None:
            layout, begin = new_layout(kind)
        _refuse_repeated(entries, known, path)
        lines = [begin, *(as_line(entry, kind, layout) for entry in entries)]
        append(path, lines)
    except UnknownLayoutError as error:
        raise SettingsError(f"cannot add to {str(path)!r}: {error}") from None
    except OSError as error:
        raise SettingsError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    return len(entries) + (0 if known is None else len(known))


def _only_header(path: Path) -> bool:
    with path.open("rb") as file:
        lines = (line for line in file if line.strip() and not line.lstrip().startswith(b"#"))
        next(lines, None)
        return next(lines, None) is None


def _refuse_repeated(entries: Sequence[NewEntry], known: HashList | None, path: Path) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.hash in seen:
            raise SettingsError(f"{entry.hash} is given twice")
        seen.add(entry.hash)
    if known is not None:
        for entry in entries:
            at = known.index(bytes.fromhex(entry.hash))
            if at is not None:
                label = known.labels[at].as_py()
                said = f", as {visible(label)!r}" if label else ""
                raise SettingsError(f"{entry.hash} is in {str(path)!r} already{said}: nothing was added")


def _content(location: str) -> bytes:
    shown = visible(location)
    try:
        uri = location if "://" in location else file_uri(str(Path(location).expanduser().resolve()))
        store, key = Store.locate(uri)
        found = store.head(key)
        most = ImageLimits().max_bytes
        if found.size > most:
            raise SettingsError(f"{shown!r} has {found.size:,} bytes; the limit is {most:,}")
        return store.read(found)
    except StorageError as error:
        raise SettingsError(f"{shown!r} is no hash, and no image that can be read: {error.detail}") from None
    except (ValueError, RuntimeError, OSError) as error:  # a null byte, an unknown ~user, links in a circle
        raise SettingsError(f"cannot read {shown!r}: {visible(str(error))}") from None

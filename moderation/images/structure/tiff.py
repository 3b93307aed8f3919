"""The directories (IFDs) of a TIFF, or of EXIF, which is one."""

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from moderation.images.guarding import Deadline
from moderation.images.structure.survey import Survey, out_of_proportion

PREFIXES = (b"MM\0*", b"II*\0", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0")
"""The first bytes of what Pillow takes for a TIFF."""
MAX_PAGES = 100_000
"""Pillow needs a quarter of a minute to find a page behind so many."""
MAX_TAGS = 0xFFFF
"""Tags in a directory; a BigTIFF may say more."""
MAX_VALUES = 1 << 18
"""Numbers in one tag; Pillow makes up to 300 bytes of Python objects of each."""

_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
"""Bytes of a value, by the type of the tag."""
_BYTES = frozenset({1, 2, 7})
"""Types that stay bytes or text, as long as they are."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _ROWS = 256, 257, 258, 262, 277, 278
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PRIVATE = 0x8000
_ICC, _EXIF, _GPS, _INTEROPERABILITY = 34675, 34665, 34853, 40965
_YCBCR = 6


@dataclass(frozen=True, slots=True)
class _Reader:
    """Where a TIFF lies, and how its numbers are written."""

    data: bytes
    base: int
    order: str
    big: bool

    @classmethod
    def at(cls, data: bytes, base: int) -> "_Reader":
        return cls(data, base, ">" if data[base : base + 1] == b"M" else "<", data[base + 2 : base + 3] == b"+")

    def first(self) -> int:
        """Offset of the first directory."""
        return self.number("Q", self.base + 8) if self.big else self.number("I", self.base + 4)

    def number(self, kind: str, position: int) -> int:
        """The integer at an absolute position; 0 behind the end of the data."""
        size = struct.calcsize(kind)
        raw = self.data[position : position + size]
        return int(struct.unpack(self.order + kind, raw)[0]) if len(raw) == size else 0

    def directory(self, offset: int, room: int) -> "_Directory":
        """The tags that Pillow reads of a directory: those whose values are in the file, `room` bytes of them at most.

        A value that the file is too short for ends the reading of this directory, and of all that would follow.
        """
        start = self.base + offset
        count, head, size, inline = (self.number("Q", start), 8, 20, 8) if self.big else (self.number("H", start), 2, 12, 4)
        form = self.order + ("HHQ" if self.big else "HHI")
        if count > MAX_TAGS:
            raise out_of_proportion(f"a TIFF directory of {count:,} tags")
        tags: dict[int, _Tag] = {}
        wanted = used = 0
        for position in range(start + head, start + head + count * size, size):
            if position + size > len(self.data):
                return _Directory(tags, 0, used)
            tag, kind, values = struct.unpack_from(form, self.data, position)
            length, place = values * _UNITS.get(kind, 0), position + size - inline
            if not length or tag in tags:
                continue
            if length > inline:
                wanted += length
                place = self.base + self.number("Q" if self.big else "I", place)
                if wanted > room:
                    continue
                if place + length > len(self.data):
                    return _Directory(tags, 0, used)
                used += length
            tags[tag] = _Tag(kind, values, place)
        return _Directory(tags, self.number("Q" if self.big else "I", start + head + count * size), used)

    def first_value(self, tags: "dict[int, _Tag]", tag: int, default: int = 0) -> int:
        """The first value of a tag that holds integers."""
        found = tags.get(tag)
        return self.number(_INTEGERS[found.kind], found.place) if found and found.kind in _INTEGERS else default


class _Tag(NamedTuple):
    kind: int
    values: int
    place: int
    """absolute position of the first value"""


class _Directory(NamedTuple):
    tags: dict[int, _Tag]
    following: int
    """offset of the next directory, 0 behind the last"""
    used: int
    """bytes of values that lie outside the directory"""


def survey_tiff(data: bytes, deadline: Deadline) -> Survey:
    """Count pages, and find the largest page and the largest strip or tile, which libtiff unpacks as a whole.

    Raises:
        ImageError: corrupt, more pages or more numbers in a tag than any sound file has; worker_timeout.
    """
    reader = _Reader.at(data, 0)
    offset, seen, room = reader.first(), set[int](), len(data)
    pixels = buffers = 0
    while offset and offset not in seen:
        deadline.check()
        seen.add(offset)
        if len(seen) > MAX_PAGES:
            raise out_of_proportion(f"more than {MAX_PAGES:,} pages")
        tags, offset, used = reader.directory(offset, room)
        room -= used  # Pillow's own limit, over all pages
        _check(reader, tags)
        width, height = reader.first_value(tags, _WIDTH), reader.first_value(tags, _HEIGHT)
        pixels, buffers = max(pixels, width * height), max(buffers, _strip(reader, tags, width, height))
    return Survey(len(seen), pixels, buffers)


def check_exif(data: bytes, deadline: Deadline) -> None:
    """Check all that may be EXIF somewhere in a file, wherever its container keeps it.

    Raises:
        ImageError: corrupt, more numbers in a tag than any sound file has; worker_timeout.
    """
    for found in re.finditer(rb"II\*\0|MM\0\*", data):
        deadline.check()
        reader = _Reader.at(data, found.start())
        _check(reader, reader.directory(reader.first(), len(data)).tags)


def _check(reader: _Reader, tags: dict[int, _Tag]) -> None:
    """That no tag that Pillow makes Python objects of holds too many values."""
    for tag, (kind, values, _) in tags.items():
        if (tag < _PRIVATE or tag == _ICC) and kind not in _BYTES and values > MAX_VALUES:
            raise out_of_proportion(f"TIFF tag {tag} has {values:,} values")
    for tag in (_EXIF, _GPS):
        if tag in tags:
            below = _check_all(reader, reader.first_value(tags, tag))
            if _INTEROPERABILITY in below:
                _check_all(reader, reader.first_value(below, _INTEROPERABILITY))


def _check_all(reader: _Reader, offset: int) -> dict[int, _Tag]:
    """The same of a directory all of whose tags Pillow reads."""
    tags = reader.directory(offset, len(reader.data)).tags
    if sum(tag.values for tag in tags.values() if tag.kind not in _BYTES) > MAX_VALUES:
        raise out_of_proportion(f"more than {MAX_VALUES:,} values in the EXIF tags of a TIFF")
    return tags


def _strip(reader: _Reader, tags: dict[int, _Tag], width: int, height: int) -> int:
    """Bytes of a strip or tile when it is unpacked."""
    if _TILE_WIDTH in tags:
        area = reader.first_value(tags, _TILE_WIDTH) * reader.first_value(tags, _TILE_HEIGHT)
    else:
        area = width * min(reader.first_value(tags, _ROWS, height), height)
    size = area * reader.first_value(tags, _BITS, 1) * reader.first_value(tags, _SAMPLES, 1) // 8
    return max(size, 4 * area) if reader.first_value(tags, _PHOTOMETRIC) == _YCBCR else size

"""The blocks of a GIF: how many frames it has, and how large a canvas they ask for.

Read as Pillow reads them, quirks included; it counts frames by reading byte for byte, several times slower.
"""

import struct

from moderation.images.guarding import Deadline
from moderation.images.structure.survey import Survey, out_of_proportion

MAX_COMMENTS = 1 << 16
"""Blocks of comments; each may become a Python object."""

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_COMMENT, _APPLICATION = 0xFE, 0xFF


def survey_gif(data: bytes, deadline: Deadline) -> Survey:
    """Count frames, and find the canvas that all of them fit on: frames may reach beyond the size in the header.

    Raises:
        ImageError: corrupt, more comments than any sound file has; worker_timeout.
    """
    if len(data) < 13:
        return Survey()
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _palette(flags)
    frames = comments = 0
    while position < len(data) and data[position] != _TRAILER:
        kind = data[position]
        position += 1
        if kind == _EXTENSION:
            position, found = _extension(data, position, frames)
            comments += found
            if comments > MAX_COMMENTS:
                raise out_of_proportion(f"more than {MAX_COMMENTS:,} comments in a GIF")
        elif kind == _IMAGE and position + 9 < len(data):
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, position)
            width, height = max(width, left + across), max(height, top + down)
            position = _skip(data, position + 9 + _palette(flags) + 1)
            frames += 1
            deadline.check()
    return Survey(frames, pixels=width * height)


def _palette(flags: int) -> int:
    """Bytes of the palette that follows."""
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _extension(data: bytes, position: int, frames: int) -> tuple[int, int]:
    """Where an extension ends, and the number of its comment blocks."""
    label = data[position] if position < len(data) else 0
    position += 1
    if label == _COMMENT:
        end, count = position, 0
        while end < len(data) and data[end]:
            end += data[end] + 1
            count += 1
        return end + 1, count
    name = data[position + 1 : position + 12]
    position = _sub_block(data, position)
    if label == _APPLICATION and not frames and name == b"NETSCAPE2.0":
        position = _sub_block(data, position)
    return _skip(data, position), 0


def _sub_block(data: bytes, position: int) -> int:
    return position + 1 + data[position] if position < len(data) else position


def _skip(data: bytes, position: int) -> int:
    """Behind the sub-blocks that start here, their terminator included."""
    while position < len(data) and data[position]:
        position += data[position] + 1
    return position + 1

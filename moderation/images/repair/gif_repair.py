"""GIFs whose first frame leaves a part of the canvas open: transparent in browsers, the palette's first colour in Pillow."""

import struct
from typing import NamedTuple

from PIL import GifImagePlugin, Image

from moderation.images.guarding import Deadline, GuardedFile

MAX_PIXELS = 1 << 24
"""Of a first frame that is looked through for a colour it has not."""
_EXTENSION, _IMAGE, _TRAILER, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9


def with_open_canvas(data: bytes, deadline: Deadline) -> bytes | None:
    """The file with an index as transparent that no pixel of the first frame has; None: there is none, or one is set."""
    found = _first_image(data)
    if found is None or found.transparent:
        return None
    index = 255 if found.colours < 256 else _unused(data, found, deadline)
    if index is None:
        return None
    control = bytes([_EXTENSION, _CONTROL, 4, 1, 0, 0, index, 0])
    return data[: found.position] + control + data[found.position :]


def with_whole_blocks(data: bytes) -> bytes:
    """The file with the length of its last block as it is: Pillow takes whole blocks only."""
    found = _first_image(data)
    if found is None:
        return data
    flags = data[found.position + 9]
    position = found.position + 11 + (3 << ((flags & 7) + 1) if flags & 128 else 0)
    while position < len(data) and data[position]:
        if position + data[position] >= len(data):
            return data[:position] + bytes([len(data) - position - 1]) + data[position + 1 :] + b"\0;"
        position += data[position] + 1
    return data


def _unused(data: bytes, found: "_First", deadline: Deadline) -> int | None:
    """An index of a full palette that no pixel of the first frame has, by decoding it alone."""
    frame = data[:6] + data[found.position + 5 : found.position + 9] + data[10 : found.start]
    alone = frame + b"," + bytes(4) + data[found.position + 5 :]
    width, height = struct.unpack_from("<HH", data, found.position + 5)
    if width * height > MAX_PIXELS:
        return None
    image = GifImagePlugin.GifImageFile(GuardedFile(alone, deadline))
    image.im = Image.new(image.mode, image.size).im
    try:
        image.load()
    except (OSError, ValueError, LookupError, EOFError, struct.error):
        image.tile = []
    histogram = image.histogram()
    return next((index for index in range(255, -1, -1) if not histogram[index]), None)


def leaves_canvas_open(data: bytes) -> bool:
    """Whether the first frame is smaller than the canvas, and no colour is transparent."""
    found = _first_image(data)
    if found is None or found.transparent:
        return False
    left, top, width, height = struct.unpack_from("<HHHH", data, found.position + 1)
    across, down = struct.unpack_from("<HH", data, 6)
    return bool(left > 0 or top > 0 or width < across or height < down)


class _First(NamedTuple):
    """The first frame of a GIF."""

    start: int
    """where the blocks begin, behind the palette of all frames"""
    position: int
    """of its descriptor"""
    transparent: bool
    """whether a colour is transparent"""
    colours: int
    """in its palette"""


def _first_image(data: bytes) -> _First | None:
    if len(data) < 13:
        return None
    everywhere = 2 << (data[10] & 7) if data[10] & 128 else 0
    start = position = 13 + 3 * everywhere
    transparent = False
    while position + 10 < len(data):
        kind = data[position]
        if kind == _IMAGE:
            flags = data[position + 9]
            return _First(start, position, transparent, 2 << (flags & 7) if flags & 128 else everywhere or 256)
        if kind == _TRAILER:
            return None
        if kind != _EXTENSION:
            position += 1
            continue
        if data[position + 1] == _CONTROL and data[position + 2] >= 4:
            transparent = transparent or bool(data[position + 3] & 1)
        position += 2
        while position < len(data) and data[position]:
            position += data[position] + 1
        position += 1
    return None

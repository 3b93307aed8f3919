"""BMPs whose pixels Pillow does not read as browsers do, rewritten with eight bits for each of blue, green, red and alpha.

These are: bit fields out of the ordinary, alpha in 16 bits, and runs (RLE) that are cut or leave gaps, which are transparent.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.images.guarding import Deadline

_RAW, _RLE8, _RLE4, _FIELDS, _ALPHA_FIELDS = 0, 1, 2, 3, 6
_WELL_READ = frozenset(
    {
        (0xF800, 0x7E0, 0x1F, 0),
        (0x7C00, 0x3E0, 0x1F, 0),
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    }
)
"""Masks of red, green, blue and alpha that Pillow knows."""
MAX_SIZE = 32 << 20
"""Bytes of a picture that is rewritten, 8 megapixels: its memory is counted by nobody."""
_BAND = 1 << 18
"""Pixels that are rewritten at a time."""


@dataclass(frozen=True, slots=True)
class Bitmap:
    """The header of a BMP."""

    offset: int
    header: int
    width: int
    height: int
    """negative: from the top down"""
    bits: int
    compression: int
    masks: tuple[int, int, int, int]
    palette: bytes
    """blue, green, red and a spare byte of each colour"""

    @property
    def rows(self) -> int:
        """The height, whichever way it goes."""
        return abs(self.height)

    @property
    def is_odd(self) -> bool:
        """Whether Pillow misreads it, without an error."""
        return bool(self.bits in (16, 32) and self.masks[3] and self.masks not in _WELL_READ) or (
            self.bits == 32 and self.compression == _RAW and bool(self.masks[3])
        )


def bitmap(data: bytes) -> Bitmap | None:
    """The header of a file, if it is a BMP of Windows' kind."""
    if len(data) < 54 or not data.startswith(b"BM"):
        return None
    offset, header = struct.unpack_from("<I", data, 10)[0], struct.unpack_from("<I", data, 14)[0]
    if header not in (40, 52, 56, 64, 108, 124) or len(data) < 14 + header:
        return None
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    masks = (0, 0, 0, 0)
    fields = compression in (_FIELDS, _ALPHA_FIELDS)
    count = 4 if compression == _ALPHA_FIELDS or header >= 56 else 3
    if (fields or header >= 56) and bits in (16, 32) and len(data) >= 54 + 4 * count:
        found = struct.unpack_from(f"<{count}I", data, 54)
        masks = (found[0], found[1], found[2], found[3] if count == 4 else 0)
    colours = struct.unpack_from("<I", data, 46)[0] or (1 << bits if bits <= 8 else 0)
    start = 14 + header
    return Bitmap(offset, header, width, height, bits, compression, masks, data[start : start + 4 * min(colours, 256)])


def rewritten(data: bytes, found: Bitmap, deadline: Deadline) -> bytes | None:
    """The same picture as Pillow reads it, or None: it is of another kind, or too large."""
    size = found.width * found.rows * 4
    if found.width <= 0 or not found.rows or size > MAX_SIZE:
        return None
    if found.compression in (_RLE8, _RLE4):
        pixels = _unpacked(data, found, deadline)
    elif found.bits in (16, 32) and (found.compression in (_FIELDS, _ALPHA_FIELDS) or found.is_odd):
        pixels = _by_fields(data, found, deadline)
    else:
        return None
    info = struct.pack("<IiiHHIIiiII", 124, found.width, found.height, 1, 32, _FIELDS, size, 2835, 2835, 0, 0)
    info = (info + struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)).ljust(124, b"\0")
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels), 0, 0, 138) + info + pixels


def _by_fields(data: bytes, found: Bitmap, deadline: Deadline) -> bytes:
    """Rows of blue, green, red and alpha, as many as there are."""
    kind = np.dtype("<u2" if found.bits == 16 else "<u4")
    stride = (found.width * kind.itemsize + 3) & ~3
    present = min(found.rows, max(0, len(data) - found.offset) // stride)
    red, green, blue, alpha = found.masks
    lines = max(1, _BAND // found.width)
    out = bytearray()
    for top in range(0, present, lines):
        deadline.check()
        count = min(lines, present - top)
        part = np.frombuffer(data, np.uint8, count * stride, found.offset + top * stride).reshape(count, stride)
        values = part[:, : found.width * kind.itemsize].copy().view(kind).astype(np.uint32)
        out += np.stack([levels(values, mask, 0) for mask in (blue, green, red)] + [levels(values, alpha, 255)], -1).tobytes()
    return bytes(out)


def levels(values: NDArray[np.uint32], mask: int, default: int) -> NDArray[np.uint8]:
    """The bits under a mask as 0 to 255."""
    if not mask:
        return np.full(values.shape, default, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    field = ((values & np.uint32(mask)) >> np.uint32(shift)).astype(np.float32)
    return (field * (255 / most)).round().clip(0, 255).astype(np.uint8)


def _unpacked(data: bytes, found: Bitmap, deadline: Deadline) -> bytes:
    """Rows of blue, green, red and alpha; where the file ends too early, what no run covers is transparent."""
    palette = np.zeros((256, 4), np.uint8)
    colours = np.frombuffer(found.palette[: len(found.palette) // 4 * 4], np.uint8).reshape(-1, 4)
    palette[: len(colours)] = colours
    palette[:, 3] = 255
    pixels = np.zeros((found.rows, found.width, 4), np.uint8)
    x = y = steps = 0
    at = found.offset
    while at + 2 <= len(data) and y < found.rows:
        steps += 1
        if not steps % 4096:
            deadline.check()
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            indexes = _indexes(bytes([value]) * ((count + 1) // 2 if found.bits == 4 else count), count, found.bits)
        elif value == 0:
            x, y = 0, y + 1
            continue
        elif value == 1:
            pixels[:, :, 3] = 255  # the picture is whole: what no run covers is black
            break
        elif value == 2:
            if at + 2 > len(data):
                break
            x, y, at = x + data[at], y + data[at + 1], at + 2
            continue
        else:
            size = (value + 1) // 2 if found.bits == 4 else value
            indexes = _indexes(data[at : at + size], value, found.bits)
            at += size + (size & 1)
        room = max(0, found.width - x)
        pixels[y, x : x + len(indexes)] = palette[indexes[:room]]
        x += len(indexes)
    return pixels.tobytes()


def _indexes(packed: bytes, count: int, bits: int) -> NDArray[np.uint8]:
    values = np.frombuffer(packed, np.uint8)
    if bits == 4:
        values = np.stack([values >> 4, values & 15], -1).ravel()
    return values[:count]

"""ICO and CUR: the picture that browsers show, the largest, and of equally large ones the deepest.

Its size must be what the directory says, at most 256×256; what browsers refuse is `corrupt`.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moderation.errors import ErrorCode, ImageError
from moderation.images.repair import bmp_repair, png_repair

_ICON, _CURSOR = 1, 2
_ENTRY = struct.Struct("<BBBBHHII")
_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_FIELDS, _ALPHA_FIELDS = 3, 6
_CUT = "the picture is cut"


@dataclass(frozen=True, slots=True)
class _Entry:
    width: int
    height: int
    bits: int
    offset: int


def kind_of(data: bytes) -> str:
    """ICO or CUR; "" for other files. An uncompressed TGA begins like a CUR without pictures, and is none."""
    if data[:2] != b"\0\0" or data[3:4] != b"\0" or data[2] not in (_ICON, _CURSOR) or data[4:6] in (b"", b"\0\0"):
        return ""
    return "ICO" if data[2] == _ICON else "CUR"


def shown(data: bytes) -> tuple[bytes, str]:
    """The picture that browsers show, as a PNG; what is wrong with it, in words, or "".

    Raises:
        ImageError: corrupt.
    """
    entry = _shown_entry(data)
    body = data[entry.offset :]
    if body.startswith(png_repair.SIGNATURE):
        if len(body) < 24 or struct.unpack_from(">II", body, 16) != (entry.width, entry.height):
            raise _broken("the size of its PNG is not the one in its directory")
        return body, ""
    picture, damaged = _bitmap(body, entry)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue(), damaged


def _shown_entry(data: bytes) -> _Entry:
    is_cursor = data[2] == _CURSOR
    count = struct.unpack_from("<H", data, 4)[0]
    end = 6 + count * _ENTRY.size
    if len(data) < end:
        raise _broken("its directory is cut")
    entries = []
    for at in range(6, end, _ENTRY.size):
        width, height, colours, _, _, bits, _, offset = _ENTRY.unpack_from(data, at)
        if offset < end:
            raise _broken("a picture starts inside its directory")
        if is_cursor:  # where the hot spot stands, icons have their bits
            bits = 0
        entries.append(_Entry(width or 256, height or 256, bits or ((colours or 256) - 1).bit_length(), offset))
    best = max(entries, key=lambda entry: (entry.width * entry.height, entry.bits))  # the first of equals
    if best.offset >= len(data):
        raise _broken("its largest picture is beyond its end")
    return best


def _bitmap(body: bytes, entry: _Entry) -> tuple[Image.Image, str]:
    """A BMP without a file header, whose height counts the mask of what is transparent too."""
    size = struct.unpack_from("<I", body)[0] if len(body) >= 4 else 0
    if size not in _HEADERS or len(body) < max(size, 16):
        raise _broken("its largest picture is neither a PNG nor a BMP")
    if size == 12:
        width, both, _, bits = struct.unpack_from("<HHHH", body, 4)
        compression, used, entry_size = 0, 0, 3
    else:
        width, both, _, bits, compression = struct.unpack_from("<iiHHI", body, 4)
        used, entry_size = struct.unpack_from("<I", body, 32)[0], 4
    height, is_upright = abs(both) // 2, both < 0
    if (width, height) != (entry.width, entry.height):
        raise _broken("the size of its picture is not the one in its directory")
    if bits not in (1, 4, 8, 16, 24, 32) or compression not in (0, _FIELDS, _ALPHA_FIELDS) or (compression and bits < 16):
        raise _broken(f"a picture of {bits} bits, compressed by method {compression}")
    masks = size if size != 40 or compression == 0 else size + (16 if compression == _ALPHA_FIELDS else 12)
    colours = (min(used, 1 << bits) or 1 << bits) if bits <= 8 else 0
    start = masks + (colours if bits <= 8 else used) * entry_size
    stride = (width * bits + 31) // 32 * 4
    lines = body[start : start + stride * height]
    present = len(lines) // stride
    if not present:
        raise _broken("its largest picture is cut")
    lines = lines.ljust(stride * height, b"\0")
    pixels = _unpacked(lines, width, height, bits, body[masks:start], entry_size) if bits in (1, 4, 8, 24) else None
    if pixels is None:
        pixels = _by_fields(body, lines, width, height, bits, compression, size)
    if bits < 32 or not pixels[:, :, 3].any():  # as if there were no alpha
        mask = body[start + stride * height :]
        pixels[:, :, 3] = _opaque(mask, width, height)
    pixels[present:, :, 3] = 0
    return Image.fromarray(pixels if is_upright else np.ascontiguousarray(pixels[::-1])), _CUT if present < height else ""


def _unpacked(lines: bytes, width: int, height: int, bits: int, palette: bytes, entry_size: int) -> NDArray[np.uint8]:
    rows = np.frombuffer(lines, np.uint8).reshape(height, -1)
    pixels = np.zeros((height, width, 4), np.uint8)
    if bits == 24:
        pixels[:, :, :3] = rows[:, : width * 3].reshape(height, width, 3)[:, :, ::-1]
        return pixels
    table = np.zeros((256, 3), np.uint8)
    known = np.frombuffer(palette[: len(palette) // entry_size * entry_size], np.uint8).reshape(-1, entry_size)
    table[: len(known)] = known[:, 2::-1]
    each = 8 // bits
    indexes = np.stack([rows >> (8 - bits * (i + 1)) & ((1 << bits) - 1) for i in range(each)], -1).reshape(height, -1)
    pixels[:, :, :3] = table[indexes[:, :width]]
    return pixels


def _by_fields(body: bytes, lines: bytes, width: int, height: int, bits: int, compression: int, size: int) -> NDArray[np.uint8]:
    masks = (0x7C00, 0x3E0, 0x1F, 0) if bits == 16 else (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    if compression:
        count = 4 if compression == _ALPHA_FIELDS or size >= 56 else 3
        if len(body) < 40 + 4 * count:
            raise _broken("its largest picture is cut")
        found = struct.unpack_from(f"<{count}I", body, 40)
        masks = (found[0], found[1], found[2], found[3] if count == 4 else 0)
    elif size >= 56:
        masks = (*masks[:3], struct.unpack_from("<I", body, 52)[0])
    kind = np.dtype("<u2" if bits == 16 else "<u4")
    rows = np.frombuffer(lines, np.uint8).reshape(height, -1)[:, : width * kind.itemsize]
    values = rows.copy().view(kind).astype(np.uint32)
    channels = [bmp_repair.levels(values, mask, 0) for mask in masks]
    return np.stack(channels, -1)


def _opaque(mask: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """[height, width]: 255 where the mask has 0; where it is cut, nothing is transparent."""
    stride = (width + 31) // 32 * 4
    rows = np.frombuffer(mask[: stride * height].ljust(stride * height, b"\0"), np.uint8).reshape(height, stride)
    return np.where(np.unpackbits(rows, axis=1)[:, :width] != 0, 0, 255).astype(np.uint8)


def _broken(what: str) -> ImageError:
    return ImageError(ErrorCode.CORRUPT, f"an icon: {what}")

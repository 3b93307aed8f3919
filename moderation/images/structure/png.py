"""The chunks of a PNG."""

import struct
import zlib

from moderation.images.guarding import Deadline
from moderation.images.structure.survey import Survey, out_of_proportion

MAX_CHUNKS = 1 << 16
"""Chunks that hold no pixels."""
MAX_TEXT = 32 << 20
"""Bytes of text. Compressed texts count with the 1 MiB that Pillow lets each of them expand to."""

_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_COLOURS = frozenset({b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP"})
_COMPRESSED = 1 << 20


def survey_png(data: bytes, deadline: Deadline) -> Survey:
    """Look at metadata and checksums only; Pillow knows the rest.

    Raises:
        ImageError: corrupt, more chunks or texts than any sound file has; worker_timeout.
    """
    position, chunks, text = 8, 0, 0
    code_points: tuple[int, ...] = ()
    view, before, odd = memoryview(data), (0, 0), False
    colours: set[bytes] = set()
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            break
        if kind not in _PIXELS:
            chunks += 1
            text += _text(data, kind, position + 8, length)
            if chunks > MAX_CHUNKS:
                raise out_of_proportion(f"more than {MAX_CHUNKS:,} PNG chunks")
            if text > MAX_TEXT:
                raise out_of_proportion(f"texts of more than {MAX_TEXT >> 20} MiB in a PNG")
            if kind in _COLOURS and not before[1]:
                odd = odd or kind in colours
                colours.add(kind)
                if kind == b"cICP" and length == 4:
                    code_points = tuple(data[position + 8 : position + 12])
        elif not length:
            deadline.check()
        elif kind == b"IDAT":
            odd = odd or (before[1] > 0 and not _sound(view, *before))  # that of the last one comes too late to matter
            before = (position + 4, position + 8 + length)
        position += length + 12
    return Survey(code_points=code_points, odd=odd)


def _sound(view: memoryview, start: int, end: int) -> bool:
    """Whether the checksum of a chunk is right, from its type to the end of its content."""
    return zlib.crc32(view[start:end]) == int.from_bytes(view[end : end + 4])


def _text(data: bytes, kind: bytes, start: int, length: int) -> int:
    """Bytes of text that Pillow will keep of a chunk."""
    if kind == b"zTXt":
        return _COMPRESSED
    if kind == b"iTXt":
        end = data.find(b"\0", start, start + length)
        return _COMPRESSED if 0 <= end < len(data) - 1 and data[end + 1] else min(length, len(data) - start)
    return min(length, len(data) - start) if kind == b"tEXt" else 0

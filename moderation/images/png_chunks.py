"""The chunks of a PNG."""

import struct

from moderation.images.guarding import Deadline
from moderation.images.survey import Survey, out_of_proportion

MAX_CHUNKS = 1 << 16
"""Chunks that hold no pixels."""
MAX_TEXT = 32 << 20
"""Bytes of text. Compressed texts count with the 1 MiB that Pillow lets each of them expand to."""

_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_COMPRESSED = 1 << 20


def survey_png(data: bytes, deadline: Deadline) -> Survey:
    """Look at metadata only: Pillow knows the rest from the header.

    Raises:
        ImageError: corrupt, more chunks or texts than any sound file has; worker_timeout.
    """
    position, chunks, text = 8, 0, 0
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
        elif not length:
            deadline.check()
        position += length + 12
    return Survey()


def _text(data: bytes, kind: bytes, start: int, length: int) -> int:
    """Bytes of text that Pillow will keep of a chunk."""
    if kind == b"zTXt":
        return _COMPRESSED
    if kind == b"iTXt":
        end = data.find(b"\0", start, start + length)
        return _COMPRESSED if 0 <= end < len(data) - 1 and data[end + 1] else length
    return length if kind == b"tEXt" else 0

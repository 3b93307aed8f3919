"""PNGs that Pillow refuses and browsers show: the chunks that matter, without those that are broken."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

MAX_TEXT = 32 << 20
"""Bytes that a text may unpack to; Pillow refuses more than 1 MiB, and browsers unpack none."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LEAST = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"acTL": 8, b"fcTL": 26, b"fdAT": 4, b"tRNS": 1, b"PLTE": 3}
"""Bytes of the chunks that say what the picture looks like, beside IHDR, IDAT, iCCP and eXIf."""
_KEPT = frozenset({*_LEAST, b"IHDR", b"IDAT", b"iCCP", b"eXIf"})
_COLOURS = frozenset({b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP"})
_PIXELS = frozenset({b"IDAT", b"fdAT"})


class Chunk(NamedTuple):
    """A chunk, as far as it is in the file."""

    kind: bytes
    start: int
    """of its content"""
    end: int
    whole: bool

    def sound(self, data: bytes) -> bool:
        """Whether the checksum is right."""
        return self.whole and zlib.crc32(data[self.start - 4 : self.end]) == int.from_bytes(data[self.end : self.end + 4])


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks up to IEND, or to where the file ends or what follows is no chunk."""
    position = len(SIGNATURE)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if not kind.isalpha():
            return
        start, end = position + 8, position + 8 + length
        yield Chunk(kind, start, min(end, len(data)), end + 4 <= len(data))
        if kind == b"IEND":
            return
        position = end + 4


def repaired_png(data: bytes) -> tuple[bytes, str]:
    """The file without what browsers skip, and what was wrong, "" if nothing was."""
    out, wrong = [SIGNATURE], ""
    once: set[bytes] = set()
    for chunk in chunks(data):
        if chunk.kind in once:  # browsers go by the first
            continue
        sound = chunk.sound(data)
        if not sound and chunk.kind != b"IEND":
            fault = "its checksum is wrong" if chunk.whole else "the file ends in it"
            wrong = wrong or f"the PNG chunk {_name(chunk.kind)} is broken: {fault}"
        if chunk.kind in (b"zTXt", b"iTXt") and _unpacked(_stream(chunk.kind, data[chunk.start : chunk.end])) > MAX_TEXT:
            out.append(data[chunk.start - 8 : chunk.end + 4])  # an attack, which Pillow refuses
            continue
        if chunk.kind not in _KEPT or not (sound or chunk.kind in (b"IHDR", b"PLTE", *_PIXELS)):
            continue
        content = data[chunk.start : chunk.end]
        fault = _fault(chunk.kind, content)
        if fault:
            wrong = wrong or f"the PNG chunk {_name(chunk.kind)} is broken: {fault}"
            continue
        if chunk.kind in _COLOURS:
            once.add(chunk.kind)
        checksum = data[chunk.end : chunk.end + 4] if chunk.whole else struct.pack(">I", zlib.crc32(chunk.kind + content))
        out.append(struct.pack(">I", len(content)) + chunk.kind + content + checksum)
        if chunk.kind == b"IDAT" and not sound:  # browsers stop here
            break
    out.append(b"\0\0\0\0IEND\xaeB`\x82")
    return b"".join(out), wrong


def _stream(kind: bytes, content: bytes) -> bytes:
    """What is compressed of a text."""
    rest = content.partition(b"\0")[2]
    if kind == b"zTXt":
        return rest[1:]
    return rest[2:].split(b"\0", 2)[-1] if rest.startswith(b"\1") else b""


def _unpacked(rest: bytes) -> int:
    """Bytes that a compressed text has, counted piece by piece up to the limit."""
    stream, size = zlib.decompressobj(), 0
    try:
        while rest and size <= MAX_TEXT:
            size += len(stream.decompress(rest, 1 << 16))
            rest = stream.unconsumed_tail
    except zlib.error:
        pass
    return size


def up_to_damage(data: bytes) -> bytes:
    """The file without what follows the first pixels whose checksum is wrong."""
    for chunk in chunks(data):
        if chunk.kind == b"IDAT" and not chunk.sound(data):
            return data[: chunk.end + 4]
    return data


def _name(kind: bytes) -> str:
    return kind.decode("ascii", "replace")


def _fault(kind: bytes, content: bytes) -> str:
    if len(content) < _LEAST.get(kind, 0):
        return "it is too short"
    if kind == b"iCCP":
        name, _, rest = content.partition(b"\0")
        if not name or not rest.startswith(b"\0"):
            return "it holds no profile"
    return ""

"""Which JPEG files a GPU's decoder reads as libjpeg does, by their structure alone."""

import re
from dataclasses import dataclass

MAX_SEGMENTS = 256
_SOI, _EOI, _SOS, _DQT, _DHT, _SOF0, _APP14 = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xC0, 0xEE
_SKIPPED = frozenset({*range(0xE0, 0xF0), 0xFE, 0xDD, _DHT, _DQT})
"""Application data, comments, the restart interval, and tables."""
_SAMPLINGS = frozenset({(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)})
"""Of brightness against colour, across and down."""
_RGB_IDS = b"RGB"
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Within the data of a scan: neither a stuffed byte, nor filling, nor a restart."""


@dataclass(frozen=True, slots=True)
class PlainJpeg:
    """A baseline JPEG, whole as far as its structure tells."""

    width: int
    """pixels, as stored"""
    height: int
    end: int
    """bytes of the picture; what follows it (a second picture, a film, rubbish) is none of a decoder's business"""


def plain_jpeg(data: bytes) -> PlainJpeg | None:
    """The picture, if it is of the kind that all decoders agree on, else None.

    That is: baseline, 8 bits, grey or YCbCr with a usual sampling, tables of its own, one scan, and an end. Not: progressive
    (nvJPEG decodes these one by one, on the CPU), arithmetic, CMYK, RGB, cut off.
    """
    if data[:2] != b"\xff\xd8":
        return None
    frame: tuple[int, int, int] | None = None
    adobe, huffman = 1, False
    position = 2
    for _ in range(MAX_SEGMENTS):
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if len(data) < position + 4 or data[position] != 0xFF:
            return None
        marker, start = data[position + 1], position + 4
        end = position + 2 + int.from_bytes(data[position + 2 : start])
        content = data[start:end] if marker in (_SOF0, _DQT, _APP14) else b""
        if end < start or end > len(data):
            return None
        if marker == _SOS:
            last = _NEXT_MARKER.search(data, end)
            if frame is None or not huffman or last is None or last.group()[1] != _EOI:
                return None
            width, height, components = frame
            plain = data[start] == components and (components == 1 or adobe == 1)
            return PlainJpeg(width, height, last.end()) if plain else None
        if marker == _SOF0 and frame is None:
            frame = _frame(content)
            if frame is None:
                return None
        elif marker not in _SKIPPED or (marker == _DQT and not _shallow(content)):
            return None
        elif marker == _APP14 and content.startswith(b"Adobe"):
            adobe = content[11] if len(content) > 11 else 0
        huffman = huffman or marker == _DHT
        position = end
    return None


def _frame(content: bytes) -> tuple[int, int, int] | None:
    """Width, height and components of a frame header."""
    if len(content) < 9 or content[0] != 8 or content[5] not in (1, 3) or len(content) != 6 + 3 * content[5]:
        return None
    height, width = int.from_bytes(content[1:3]), int.from_bytes(content[3:5])
    luma, *colours = ((layer >> 4, layer & 15) for layer in content[7::3])
    usual = luma in _SAMPLINGS if colours else luma == (1, 1)
    if not (width and height and usual) or any(colour != (1, 1) for colour in colours) or content[6::3] == _RGB_IDS:
        return None
    return width, height, content[5]


def _shallow(tables: bytes) -> bool:
    """Whether all quantisation tables are of 8 bits."""
    return len(tables) % 65 == 0 and all(table < 16 for table in tables[::65])

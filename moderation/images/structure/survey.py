"""What the bytes of a file say before any parser of Pillow's sees them.

Pillow keeps each field of a file's metadata as Python objects, up to 75 bytes of memory for one byte of the file, and
counts the frames of some formats by reading them all. So the structure is walked first: what is out of all proportion is
`corrupt`, and what decoding will need is known before it is asked for.
"""

from dataclasses import dataclass

from moderation.errors import ErrorCode, ImageError


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a file; zero is unknown, and left to Pillow."""

    frames: int = 0
    """frames or pages in the file"""
    pixels: int = 0
    """of the largest page, or of the canvas that holds all frames"""
    buffers: int = 0
    """bytes that the codec needs beside the picture it fills"""
    deep: bool = False
    """more than 8 bits in a sample"""
    dense: bool = False
    """colour is stored as finely as brightness"""
    tiled: bool = False
    """the picture is put together of others"""
    odd: bool = False
    """Pillow would read it differently from browsers, until it is repaired"""
    arithmetic: bool = False
    """a JPEG whose decoder wants the whole file at once"""
    code_points: tuple[int, ...] = ()
    """what the colours are, by ITU-T H.273: primaries, transfer, matrix, full range"""


def out_of_proportion(what: str) -> ImageError:
    """The error of a file whose metadata is an attack, or hopelessly broken."""
    return ImageError(ErrorCode.CORRUPT, f"unreasonably large structure: {what}")

"""What kind of file some bytes are, and the picture inside of those that only wrap one. Pure."""

from dataclasses import dataclass

from moderation.errors import ErrorCode, ImageError
from moderation.images import icons
from moderation.images.limits import ImageLimits
from moderation.images.structure.isobmff import BRANDS
from moderation.images.tool_formats import tool_format

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True, slots=True)
class Recognized:
    """A file that may be decoded."""

    data: bytes
    """what is decoded: the file, or the picture that it holds"""
    wrapped_in: str = ""
    """the format of the file, if the picture that it holds is of another"""
    damaged: str = ""
    """what is wrong with the file, in words; "" if nothing is"""


def is_plain(data: bytes) -> bool:
    """Whether a file starts like one of the formats that are always read and hold no others."""
    if data.startswith(_MAGIC):
        return True
    riff = data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    bitmap = data.startswith(b"BM") and not any(data[6:10])
    return riff or bitmap or (data[4:8] == b"ftyp" and data[8:12] in BRANDS)


def recognize(data: bytes, limits: ImageLimits) -> Recognized:
    """What is to be decoded of a file.

    Raises:
        ImageError: unsupported_format, of a format that is off; corrupt.
    """
    if is_plain(data):
        return Recognized(data)
    kind = icons.kind_of(data)
    if kind:
        picture, damaged = icons.shown(data)
        return Recognized(picture, kind, damaged)
    tool = tool_format(data)
    if tool is not None and tool not in limits.formats:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"{tool.label} is off: --formats {tool.value}")
    return Recognized(data)

"""From bytes to an opened Pillow image: the format by its first bytes, its parser started directly.

`Image.open` has a limit of pixels for the whole process, by the header; here what decoding takes decides. What browsers show
though Pillow refuses it is repaired first.
"""

from dataclasses import dataclass

from PIL import Image, ImageFile, UnidentifiedImageError

from moderation.images.guarding import Deadline, GuardedFile
from moderation.images.repair import bmp_repair, gif_repair, isobmff_repair, jpeg_repair, png_repair
from moderation.images.structure.isobmff import BRANDS
from moderation.images.tool_formats import tool_format

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""The image formats that are read by parsers of their own; ICO and CUR hold one of them, `tool_formats` must be asked for."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose header Pillow has read."""

    image: ImageFile.ImageFile
    data: bytes
    """what it was read from: the file, or what was made of it"""
    damaged: str
    """what was wrong with the file, in words; "" if nothing was"""


def open_file(data: bytes, deadline: Deadline, errors: tuple[type[BaseException], ...], *, odd: bool = False) -> Opened:
    """Start the parser of a file's format.

    Args:
        data: the file.
        deadline: what each read of Pillow's is checked against.
        errors: those that mean a broken file.
        odd: whether the survey says that it must be repaired.

    Raises:
        one of `errors`: the file cannot be read; ImageError: worker_timeout.
    """
    data = _as_browsers_read(data, deadline)
    if odd:
        repaired, damaged = _repairs(data, deadline)[0]
        return Opened(parse(repaired, deadline), repaired, damaged)
    try:
        return Opened(parse(data, deadline), data, "")
    except errors as error:
        for repaired, damaged in _repairs(data, deadline):
            try:
                return Opened(parse(repaired, deadline), repaired, damaged)
            except errors:
                continue
        raise error from None


def parse(data: bytes, deadline: Deadline) -> ImageFile.ImageFile:
    """The opened image. Raises whatever Pillow does; `UnidentifiedImageError` if no parser accepts it."""
    Image.preinit()
    file = GuardedFile(data, deadline)
    prefix = data[:16]
    for name in FORMATS:
        if name not in Image.OPEN:
            Image.init()
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(prefix)
        if not accepted or isinstance(accepted, str):
            continue
        file.seek(0)
        try:
            image = factory(file, "")
        except (SyntaxError, IndexError, TypeError) as error:
            raise UnidentifiedImageError(str(error)) from None
        if isinstance(image, ImageFile.ImageFile):
            return image
    tool = tool_format(data)
    if tool is None:
        raise UnidentifiedImageError("no parser accepts the file")
    Image.init()
    file.seek(0)
    try:
        image = Image.OPEN[tool.parser][0](file, "")
    except (SyntaxError, IndexError, TypeError) as error:
        raise UnidentifiedImageError(str(error)) from None
    if not isinstance(image, ImageFile.ImageFile):
        raise UnidentifiedImageError("no picture")
    return image


def _as_browsers_read(data: bytes, deadline: Deadline) -> bytes:
    """Repairs files that Pillow reads without an error, but differently from browsers, so that both read them alike."""
    if data.startswith(b"GIF8") and gif_repair.leaves_canvas_open(data):
        return gif_repair.with_open_canvas(data, deadline) or data
    if data.startswith(b"BM"):
        found = bmp_repair.bitmap(data)
        if found is not None and found.is_odd:
            return bmp_repair.rewritten(data, found, deadline) or data
    return data


def _repairs(data: bytes, deadline: Deadline) -> list[tuple[bytes, str]]:
    """What may be opened instead of a file that cannot be, and what is wrong with it."""
    if data.startswith(b"\xff\xd8\xff"):
        return [(jpeg_repair.without_broken_segments(data), "a JPEG segment beside the picture is broken")]
    if data.startswith(png_repair.SIGNATURE):
        return [png_repair.repaired_png(data)]
    if data[4:8] == b"ftyp" and data[8:12] in BRANDS:
        return isobmff_repair.repairs(data)
    if data.startswith(b"BM"):
        found = bmp_repair.bitmap(data)
        made = bmp_repair.rewritten(data, found, deadline) if found is not None else None
        return [(made, "")] if made else []
    return []

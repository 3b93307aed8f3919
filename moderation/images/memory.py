"""How much memory decoding takes, as measured: `tests/images/test_hostile_images.py` holds these numbers to account."""

from PIL import ImageFile

from moderation.images.limits import ImageLimits
from moderation.images.structure.survey import Survey
from moderation.images.tool_formats import PARSERS

LIMIT = 1 << 30
"""Bytes of memory that one image may always take."""
_PER_PIXEL = 12
"""Bytes for each pixel that is allowed, where more of them are than by default."""

_RGB = 4
"""Pillow keeps RGB in four bytes."""
_PLANES = {
    "AVIF": {(False, False): 10, (True, False): 12, (False, True): 13, (True, True): 16},
    "HEIF": {(False, False): 8, (True, False): 11, (False, True): 11, (True, True): 19},
}
"""Bytes for a pixel without alpha, by whether the planes are dense, and whether they are deep."""
_ONE_BYTE = frozenset({"1", "L", "P"})


def memory_limit(limits: ImageLimits) -> int:
    """Bytes of memory that one image may take: 1 GiB, and more only if more pixels are allowed than by default."""
    return max(LIMIT, limits.max_pixels * _PER_PIXEL)


def memory_needed(image: ImageFile.ImageFile, frames: int, survey: Survey) -> int:
    """Bytes at the peak of decoding: the codec's own, the picture in the file's mode, and the same in RGB.

    `image` is an opened file whose pixels have not been loaded; a JPEG's `draft` has been chosen.
    """
    pixels = max(image.width * image.height, survey.pixels if image.format != "JPEG" else 0)
    if image.format == "WEBP":  # libwebp's two canvases, the frame as bytes, the frame as a picture
        return pixels * 16
    if image.format == "AVIF" and frames > 1:  # up to eight frames are held that others refer to
        return pixels * 48
    if image.format in ("AVIF", "HEIF"):
        alpha = 2 if "A" in image.mode.upper() else 0
        again = 4 if (survey.tiled if image.format == "AVIF" else frames > 1) else 0
        return pixels * (_PLANES[str(image.format)][survey.dense, survey.deep] + alpha + again)
    if image.format == "JPEG2000":  # four components as 32-bit numbers, twice
        return pixels * 40
    if image.format in PARSERS:
        return pixels * 24
    if frames > 1 and image.format in ("GIF", "PNG"):  # what went before, what it is restored to, what is drawn
        return pixels * 18
    source = 1 if image.mode in _ONE_BYTE else 2 if image.mode.startswith("I;16") else 4
    return pixels * (4 if image.format == "TIFF" else source) + max(pixels * _RGB, survey.buffers)

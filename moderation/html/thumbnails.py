"""Small pictures for the contact sheets. They decode hostile files: call `thumbnails` in a process of its own."""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from moderation.errors import ImageError, StorageError
from moderation.images.budget import MemoryBudget
from moderation.images.decoding import PARSER_ERRORS, DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pixels import Convert
from moderation.sources import ObjectReader

SIZE = 160
"""pixels of the longer side, at most"""
LARGE = 512
"""pixels where a person decides by the picture alone"""
QUALITY = 60
_THREADS = 4
_MEMORY = 1 << 30
"""bytes that all threads may take together for pixels"""

Wanted = tuple[str, str, int]
"""URI, ETag and frame of an image"""


def thumbnails(
    reader: ObjectReader, examples: Sequence[Wanted], limits: ImageLimits, size: int = SIZE
) -> dict[tuple[str, int], str]:
    """JPEGs as data URIs, by URI and frame. Images that cannot be read, or are another version by now, are missing.

    Args:
        reader: what may be read.
        examples: the images.
        limits: what is too much of an image.
        size: pixels of the longer side, at most.
    """
    wanted = sorted(set(examples))
    memory = MemoryBudget(_MEMORY)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="thumbnail") as pool:
        made = pool.map(lambda item: _thumbnail(reader, item, limits, memory, size), wanted)
        return {(uri, frame): data for (uri, _, frame), data in zip(wanted, made, strict=True) if data is not None}


def _thumbnail(reader: ObjectReader, wanted: Wanted, limits: ImageLimits, memory: MemoryBudget, size: int) -> str | None:
    uri, etag, frame = wanted
    try:
        image = DecodedImage(reader.get(uri, etag), limits, target_size=size)
        with memory.reserve(image.memory):
            for index, picture in image.frames():
                if index == frame:
                    return _data_uri(picture, image.colours, size)
    except (StorageError, ImageError):
        return None
    return None


def _data_uri(picture: Image.Image, colours: Convert | None, size: int) -> str | None:
    """The picture as it is seen, without any of the file's metadata."""
    try:
        picture.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
        small = Image.new("RGB", picture.size)
        small.paste(colours(picture) if colours else picture)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=QUALITY, optimize=True)
    except PARSER_ERRORS:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")

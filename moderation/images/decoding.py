"""From bytes to upright RGB frames, with Pillow. Everything in the bytes is hostile."""

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pillow_heif
from PIL import AvifImagePlugin, Image, ImageFile, JpegImagePlugin, UnidentifiedImageError

from moderation.errors import ErrorCode, ImageError
from moderation.images.gif_blocks import survey_gif
from moderation.images.guarding import Deadline, GuardedFile
from moderation.images.isobmff_boxes import BRANDS, survey_boxes
from moderation.images.jpeg_segments import survey_jpeg
from moderation.images.limits import ImageLimits
from moderation.images.memory import memory_limit, memory_needed
from moderation.images.pixels import rgb, upright
from moderation.images.png_chunks import survey_png
from moderation.images.reduction import Reduction, reduce
from moderation.images.survey import Survey
from moderation.images.tiff_directories import PREFIXES, survey_tiff
from moderation.images.webp_chunks import survey_webp

# One thread for an image: images are decoded side by side. Thumbnails, depth maps and masks are not looked at.
pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Sizes are checked against ImageLimits right after the header is read; broken metadata is not worth a word on stderr.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""The image formats that are read; all others are `unsupported_format`."""

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

PARSER_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow and its codecs have been seen to raise on broken files."""

_ORIENTATION = 0x0112
_MAX_EXIF = 1 << 20
"""Bytes. Larger metadata is not read: it could take gigabytes."""
_STEP = 8
"""Frames of an animation between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the file says of itself."""

    format: str
    width: int
    """pixels as stored, before EXIF orientation is applied"""
    height: int
    frames: int
    """frames or pages in the file, at least 1"""


class DecodedImage:
    """An opened image file: its header, and its frames on demand, so that one frame is in memory at a time.

    Attributes:
        header: what the file says of itself.
        orientation: EXIF's, of a JPEG; 1 for all others, where it may stand behind the pixels.
        reduction: how the pictures of a JPEG that is decoded at reduced scale lie in their pixels; None at full scale.
        memory: bytes that `frames` will take at most, as far as the header tells; never more than `memory_limit`.
    """

    def __init__(self, data: bytes, limits: ImageLimits, target_size: int | None = None) -> None:
        """Read the header. `target_size`: the model's input in pixels; far larger JPEGs are decoded at reduced scale.

        Raises:
            ImageError: empty, too_large, unsupported_format, too_many_pixels, corrupt or worker_timeout.
        """
        if not data:
            raise ImageError(ErrorCode.EMPTY, "the object has no bytes")
        if len(data) > limits.max_bytes:
            raise ImageError(ErrorCode.TOO_LARGE, f"{len(data):,} bytes; the limit is {limits.max_bytes:,}")
        self.orientation = 1
        self.reduction: Reduction | None = None
        self._limits = limits
        self._deadline = Deadline(limits.max_seconds)
        try:
            survey = _survey(data, self._deadline)
            self._file = GuardedFile(data, self._deadline)
            image = Image.open(self._file, formats=FORMATS)
            width, height = image.size
            _check_pixels(width, height, limits)
            frames = _frame_count(image, survey)
            if image.format == "HEIF" and frames > 1:
                survey = replace(survey, pixels=_largest_heif(data))
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                if not survey.buffers:  # one scan, whose time its size bounds, can be decoded by one call
                    image.decodermaxblock = len(data)
                self.orientation = _orientation(image)
                self.reduction = reduce(image, target_size, self.orientation) if target_size else None
        except PARSER_ERRORS as error:
            raise _unreadable(data, error) from None
        self._image: ImageFile.ImageFile | None = image
        self.header = ImageHeader("JPEG" if image.format == "MPO" else str(image.format), width, height, frames)
        self.memory = memory_needed(image, frames, survey)
        if frames > len(data):
            raise ImageError(ErrorCode.CORRUPT, f"{frames:,} frames in {len(data):,} bytes")
        if self.memory > memory_limit(limits):
            raise ImageError(ErrorCode.TOO_MANY_PIXELS, _too_much(self.memory, memory_limit(limits)))
        self._deadline.check()
        self._deadline.pause()

    def frames(self) -> Iterator[tuple[int, Image.Image]]:
        """Up to `max_frames` frames, evenly spread, first and last among them: (index, upright RGB picture).

        They can be had once: memory is given back as soon as it can be. The time between this object's making and the
        first frame does not count towards `max_seconds`.

        Raises:
            ImageError: corrupt, too_many_pixels or worker_timeout.
        """
        self._deadline.resume()
        indexes = spread(self.header.frames, self._limits.max_frames)
        for index in indexes:
            try:
                picture = self._picture(index, last=index == indexes[-1])
            except PARSER_ERRORS as error:
                raise _broken(error) from None
            self._deadline.check()
            yield index, picture
            del picture

    def _picture(self, index: int, *, last: bool) -> Image.Image:
        image = self._image
        if image is None:
            raise ValueError("the frames of an image can be had once")
        if image.format == "HEIF" and index:  # its plugin keeps the pixels of all frames it has loaded
            image = self._image = Image.open(self._file, formats=("HEIF",))
        if image.format in ("WEBP", "AVIF"):  # their decoders go from frame to frame without a look at the clock
            for before in range(image.tell() + _STEP, index, _STEP):
                image.seek(before)
                image.load()
                self._deadline.check()
        image.seek(index)
        _check_pixels(*image.size, self._limits)
        image.load()
        self._deadline.check()
        _check_pixels(*image.size, self._limits)
        orientation = self.orientation if self.header.format == "JPEG" else _orientation(image)
        picture = rgb(image)
        if last:
            self._image = None
        elif picture is image:  # it becomes the next frame
            picture = image.copy()
        del image
        return upright(picture, orientation)


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` of the indexes 0 … count-1, evenly spread, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, limit).round()})


def _survey(data: bytes, deadline: Deadline) -> Survey:
    if data.startswith(b"\xff\xd8\xff"):
        return survey_jpeg(data)
    if data.startswith(b"\x89PNG"):
        return survey_png(data, deadline)
    if data.startswith(b"GIF8"):
        return survey_gif(data, deadline)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return survey_webp(data)
    if data.startswith(PREFIXES):
        return survey_tiff(data, deadline)
    if data[4:8] == b"ftyp" and data[8:12] in BRANDS:
        return survey_boxes(data, deadline)
    return Survey()


def _largest_heif(data: bytes) -> int:
    """Pixels of the largest image in the file: the Pillow plugin takes memory for an image before its size can be seen."""
    sizes: list[tuple[int, int]] = [image.size for image in pillow_heif.open_heif(io.BytesIO(data))]
    return max(width * height for width, height in sizes)


def _frame_count(image: ImageFile.ImageFile, survey: Survey) -> int:
    if image.format == "MPO":
        return 1
    return survey.frames or max(1, int(getattr(image, "n_frames", 1)))


def _orientation(image: Image.Image) -> int:
    if len(image.info.get("exif") or b"") > _MAX_EXIF:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except PARSER_ERRORS:  # broken metadata does not make a picture unreadable
        return 1
    return value if isinstance(value, int) else 1


def _check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            ErrorCode.TOO_MANY_PIXELS, f"{width} x {height} = {width * height:,} pixels; the limit is {limits.max_pixels:,}"
        )


def _too_much(needed: int, limit: int) -> str:
    return f"decoding this format takes {needed >> 20:,} MiB of memory; the limit is {limit >> 20:,} MiB"


def _unreadable(data: bytes, error: BaseException) -> ImageError:
    """Why the header cannot be read."""
    riff = data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    bitmap = data.startswith(b"BM") and not any(data[6:10])
    isobmff = data[4:8] == b"ftyp" and data[8:12] in BRANDS
    if not (data.startswith(_MAGIC) or riff or bitmap or isobmff):
        return ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"not one of {', '.join(FORMATS)}")
    if isinstance(error, UnidentifiedImageError):
        return ImageError(ErrorCode.CORRUPT, "the file starts like an image, but its header cannot be read")
    return _broken(error)


def _broken(error: BaseException) -> ImageError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return ImageError(ErrorCode.TOO_MANY_PIXELS, reason)
    return ImageError(ErrorCode.CORRUPT, reason)

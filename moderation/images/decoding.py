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
from PIL import AvifImagePlugin, Image, ImageFile, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from moderation.errors import ErrorCode, ImageError
from moderation.images.colour.colours import Conversion
from moderation.images.colour.file_colours import conversion_of
from moderation.images.guarding import Deadline
from moderation.images.isolated.pictures import IsolatedPicture, open_isolated
from moderation.images.limits import ImageLimits
from moderation.images.memory import memory_limit, memory_needed
from moderation.images.opening import FORMATS, open_file, parse
from moderation.images.partial import whiten
from moderation.images.pixels import rgb, upright
from moderation.images.recognition import is_plain, recognize
from moderation.images.reduction import Reduction, reduce
from moderation.images.salvage import salvaged
from moderation.images.structure.survey import Survey
from moderation.images.structure.surveying import survey_file
from moderation.images.tiff_layouts import MisreadLayoutError, set_right
from moderation.images.tool_formats import PARSERS, tool_format
from moderation.images.unread import JXL, SVG, is_compressed_svg, isolated_format

# One thread for an image: images are decoded side by side. Thumbnails, depth maps and masks are not looked at.
pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Sizes are checked against ImageLimits right after the header is read; broken metadata is not worth a word on stderr.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

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
_MAX_SCALE = 12
"""Pixels in the header of a JPEG decoded at reduced scale, for each pixel that is allowed: they cost time, not memory."""
_EMBEDDED = frozenset({"JPEG", "PNG", "WEBP", "GIF"})
"""What may be inside an SVG."""
_EMBEDDED_PIXELS = 8 << 20
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
        colours: what makes sRGB of the pictures that `frames` gives, to be applied once they are small; None: they are sRGB.
        primary: index of the frame that viewers show first.
        memory: bytes that `frames` will take at most, as far as the header tells; never more than `memory_limit`.
        damaged: what is wrong with a file that can be shown nevertheless, in words, as far as is known yet; "" if nothing is.
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
        self._target_size = target_size
        self._deadline = Deadline(limits.max_seconds)
        self._isolated: IsolatedPicture | None = None
        kind = "" if is_plain(data) else isolated_format(data)
        if kind:
            self._open_isolated(data, kind)
            return
        try:
            found = recognize(data, limits)
            data = found.data
            survey = survey_file(data, self._deadline)
            opened = open_file(data, self._deadline, PARSER_ERRORS, odd=survey.odd)
            self.damaged, self._data, image = found.damaged or opened.damaged, opened.data, opened.image
            if opened.data is not data:
                survey = survey_file(opened.data, self._deadline)
            width, height = image.size
            frames = _frame_count(image, survey)
            conversion = _conversion(image, survey, data, found.wrapped_in)
            if image.format == "HEIF" and frames > 1:
                survey = replace(survey, pixels=_largest_heif(data))
            early = conversion is not None and (conversion.early or frames > 1 or _has_alpha(image))
            if early:  # what is reduced is averaged
                self._target_size = None
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                self._prepare_jpeg(image, survey)
            _check_pixels(*image.size, limits)
        except PARSER_ERRORS as error:
            raise _unreadable(data, error) from None
        self._image: ImageFile.ImageFile | None = image
        self._survey = survey
        self._early = conversion if early else None
        self.colours = None if early else conversion
        self._read_as = "JPEG" if image.format == "MPO" else str(image.format)
        self.header = ImageHeader(found.wrapped_in or self._read_as, width, height, frames)
        self.primary = _primary(image, frames)
        self.memory = memory_needed(image, frames, survey)
        if frames > len(data):
            raise ImageError(ErrorCode.CORRUPT, f"{frames:,} frames in {len(data):,} bytes")
        if self.memory > memory_limit(limits):
            raise ImageError(ErrorCode.TOO_MANY_PIXELS, _too_much(self.memory, memory_limit(limits)))
        self._deadline.check()
        self._deadline.pause()

    @property
    def is_plain(self) -> bool:
        """Whether any decoder may read the file: its colours are sRGB, and nothing is wrong with it as far as is known."""
        return self.colours is None and self._early is None and not self.damaged

    def frames(self) -> Iterator[tuple[int, Image.Image]]:
        """Up to `max_frames` frames, evenly spread, first, last and primary among them: (index, upright picture).

        Pictures are RGB, or CMYK where `colours` takes these. They can be read once: memory is released as soon as possible.
        The time between this object's making and the first frame does not count towards `max_seconds`.

        Raises:
            ImageError: corrupt, too_many_pixels or worker_timeout.
        """
        if self._image is None and self._isolated is None:
            raise ImageError(ErrorCode.INTERNAL, "the frames of an image can be read only once")
        self._deadline.resume()
        wanted = with_primary(spread(self.header.frames, self._limits.max_frames), self.primary, self._limits.max_frames)
        if self._isolated is not None:
            yield from self._isolated_frames(self._isolated, wanted)
            return
        before = -1
        while wanted:
            index = wanted.pop(0)
            try:
                picture = self._picture(index, last=not wanted)
            except MisreadLayoutError as error:
                raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, str(error)) from None
            except PARSER_ERRORS as error:
                if isinstance(error, MemoryError | Image.DecompressionBombError):
                    raise _broken(error) from None
                if before < 0 and not index:
                    picture, wanted = self._salvaged(error), []
                else:
                    self.damaged = f"frame {index} or one before it is broken: {_words(error)}"
                    room = self._limits.max_frames if before < 0 else len(wanted)
                    wanted = [before + 1 + i for i in spread(index - before - 1, room)]
                    if not wanted and before < 0:
                        raise _broken(error) from None
                    continue
            self._deadline.check()
            yield index, picture
            before = index
            del picture

    def _open_isolated(self, data: bytes, kind: str) -> None:
        """A format that is decoded by a process of its own."""
        limits = self._limits
        picture = self._isolated = open_isolated(
            data, kind, self._deadline, lambda inside: embedded_png(inside, self._embedded_limits())
        )
        _check_pixels(*picture.drawn, limits)
        conversion = picture.conversion
        early = conversion is not None and (conversion.early or picture.frames > 1 or picture.has_alpha)
        self._early = conversion if early else None
        self.colours = None if early else conversion
        self.header = ImageHeader(kind, *picture.size, picture.frames)
        self.primary, self.damaged, self._image = 0, "", None
        least, most = picture.memory(min(picture.frames, limits.max_frames))
        self.memory = min(most, memory_limit(limits))
        if least > self.memory:
            raise ImageError(ErrorCode.TOO_MANY_PIXELS, _too_much(least, memory_limit(limits)))
        self._deadline.check()
        self._deadline.pause()

    def _embedded_limits(self) -> ImageLimits:
        """Of a picture inside an SVG, for which no memory is reserved."""
        left = max(self._deadline.left, 0.001)
        pixels = min(_EMBEDDED_PIXELS, self._limits.max_pixels)
        return self._limits.model_copy(update={"max_seconds": left, "max_pixels": pixels, "formats": ()})

    def _isolated_frames(self, picture: IsolatedPicture, wanted: list[int]) -> Iterator[tuple[int, Image.Image]]:
        self._isolated = None
        for index, (frame, broken) in zip(wanted, picture.pictures(wanted, self.memory), strict=False):
            self.damaged = broken or self.damaged
            self._deadline.check()
            yield index, rgb(frame, self._converted if self._early else None)

    def _prepare_jpeg(self, image: JpegImagePlugin.JpegImageFile, survey: Survey) -> None:
        """Choose how much is decoded at a time, and at which scale."""
        if not survey.buffers or survey.arithmetic:  # one scan, whose time its size bounds, can be decoded by one call
            image.decodermaxblock = len(self._data)
        self.orientation = _orientation(image.info.get("exif"))
        if image.width * image.height > _MAX_SCALE * self._limits.max_pixels:
            _check_pixels(*image.size, self._limits)
        self.reduction = reduce(image, self._target_size, self.orientation) if self._target_size else None

    def _picture(self, index: int, *, last: bool) -> Image.Image:
        image = self._image or parse(self._data, self._deadline)
        if image.format == "HEIF" and index != image.tell():  # its plugin keeps the pixels of all frames it has loaded
            image = self._image = parse(self._data, self._deadline)
        if image.format in ("WEBP", "AVIF"):  # their decoders go from frame to frame without a look at the clock
            for before in range(image.tell() + _STEP, index, _STEP):
                image.seek(before)
                image.load()
                self._deadline.check()
        if index != image.tell() and image.format not in PARSERS:
            image.seek(index)
        _check_pixels(*image.size, self._limits)
        orientation = self._orientation_of(image)
        correct = set_right(image) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
        if image.format == "PNG" and self.header.frames == 1:  # one that holds too few pixels is read without an error
            whiten(image)
        image.load()
        self._deadline.check()
        _check_pixels(*image.size, self._limits)
        if last:
            self._image = None
        return self._finished(correct(image) if correct else image, orientation, last=last)

    def _orientation_of(self, image: Image.Image) -> int:
        """As browsers turn pictures: not by what stands behind the pixels of a PNG, nor by XMP, nor any WebP."""
        if self.header.format == "JPEG":
            return self.orientation
        return _orientation(image.info.get("exif")) if self.header.format in ("PNG", "AVIF") else 1

    def _finished(self, image: Image.Image, orientation: int, *, last: bool) -> Image.Image:
        """The picture upright, and in RGB unless it is CMYK that is converted later."""
        if image.mode == "CMYK" and self.colours is not None and self.colours.mode == "CMYK":
            return upright(image, orientation)
        picture = rgb(image, self._converted if self._early else None)
        if picture is image and not last:  # it becomes the next frame
            picture = image.copy()
        return upright(picture, orientation)

    def _converted(self, band: Image.Image) -> Image.Image:
        """A part of a picture in sRGB, within the time."""
        self._deadline.check()
        return self._early(band) if self._early else band

    def _salvaged(self, error: BaseException) -> Image.Image:
        """As much of the first picture as browsers show, the rest white. Raises `error` as `ImageError` if that is nothing."""
        reduction = self.reduction
        self._image = None
        for image in salvaged(self._data, self._read_as, self._deadline, PARSER_ERRORS, self._prepare_any):
            self._deadline.check()
            if self.reduction == reduction:
                self.damaged = self.damaged or f"the picture is cut or broken: {_words(error)}"
                return self._finished(image, self._orientation_of(image), last=True)
        raise _broken(error) from None

    def _prepare_any(self, image: ImageFile.ImageFile) -> None:
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            self._prepare_jpeg(image, self._survey)


def embedded_png(data: bytes, limits: ImageLimits) -> bytes:
    """A picture inside an SVG as PNG: one whose colours are sRGB and that nothing is wrong with.

    Raises:
        ImageError: as `DecodedImage`; unsupported_format, if it is more than a plain picture.
    """
    what = "" if is_plain(data) else isolated_format(data)
    if what:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"an SVG with {what} inside")
    image = DecodedImage(data, limits)
    if image.header.frames > 1 or image.orientation != 1 or image.header.format not in _EMBEDDED:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"an SVG with a {image.header.format} inside that is not plain")
    [(_, picture)] = image.frames()
    if not image.is_plain:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "an SVG with a picture inside that is damaged or has colours of its own")
    with Image.open(io.BytesIO(data), formats=[image.header.format]) as opened:
        if _has_alpha(opened):
            picture = opened.convert("RGBA")
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def with_primary(indexes: list[int], primary: int, limit: int) -> list[int]:
    """The same with the primary frame among them, in the place of the nearest if there are `limit` already."""
    if primary in indexes:
        return indexes
    if len(indexes) >= limit:
        inner = indexes[1:-1] or indexes[-1:]
        nearest = min(inner, key=lambda index: abs(index - primary))
        indexes = [index for index in indexes if index != nearest]
    return sorted([*indexes, primary])


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` of the indexes 0 … count-1, evenly spread, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, limit).round()})


def _largest_heif(data: bytes) -> int:
    """Pixels of the largest image in the file: the Pillow plugin takes memory for an image before its size can be seen."""
    sizes: list[tuple[int, int]] = [image.size for image in pillow_heif.open_heif(io.BytesIO(data))]
    return max(width * height for width, height in sizes)


def _conversion(image: ImageFile.ImageFile, survey: Survey, data: bytes, wrapped_in: str) -> Conversion | None:
    """How pictures become sRGB; raises `ImageError` where colours cannot be shown as browsers show them."""
    if image.format == "PNG" and image.mode == "RGB" and "transparency" in image.info and data[24:25] == b"\x10":
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "a PNG of 16-bit colours, one of which is transparent")
    conversion = conversion_of(image, survey)
    if conversion is not None and wrapped_in in ("ICO", "CUR"):
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "an icon whose PNG has its own palette: browsers show nothing")
    return conversion


def _frame_count(image: ImageFile.ImageFile, survey: Survey) -> int:
    if image.format == "MPO" or image.format in PARSERS:  # of a PSD, the picture that all layers make
        return 1
    return survey.frames or max(1, int(getattr(image, "n_frames", 1)))


def _primary(image: ImageFile.ImageFile, frames: int) -> int:
    """HEIF names one; of a PNG with a still picture for other viewers, browsers show what comes behind it."""
    if frames == 1:
        return 0
    if image.format == "HEIF":
        return image.tell()
    return 1 if getattr(image, "default_image", False) else 0


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _orientation(exif: object) -> int:
    if not isinstance(exif, bytes) or not exif or len(exif) > _MAX_EXIF:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(_ORIENTATION, 1)
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
    if not is_plain(data) and tool_format(data) is None:
        if is_compressed_svg(data):
            return ImageError(ErrorCode.UNSUPPORTED_FORMAT, "SVGZ is not supported: unpack it before moderation")
        return ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"not one of {', '.join((*FORMATS, 'ICO', 'CUR', JXL, SVG))}")
    if isinstance(error, UnidentifiedImageError):
        return ImageError(ErrorCode.CORRUPT, "the file starts like an image, but its header cannot be read")
    return _broken(error)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _broken(error: BaseException) -> ImageError:
    reason = _words(error)
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return ImageError(ErrorCode.TOO_MANY_PIXELS, reason)
    return ImageError(ErrorCode.CORRUPT, reason)

"""From bytes to upright RGB frames, with Pillow. Everything in the bytes is hostile."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pillow_heif
from PIL import Image, UnidentifiedImageError

from moderation.errors import ErrorCode, ImageError
from moderation.images.limits import ImageLimits

pillow_heif.register_heif_opener()
# Sizes are checked against ImageLimits right after the header is read; broken metadata is not worth a word on stderr.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

MIN_REDUCED = 448
"""JPEGs are never reduced below this many pixels: models with small inputs would see the difference."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""The image formats that are read; all others are `unsupported_format`."""

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

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
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    """An opened image file: its header, and its frames on demand, so that one frame is in memory at a time."""

    def __init__(self, data: bytes, limits: ImageLimits, target_size: int | None = None) -> None:
        """Read the header. `target_size`: the model's input in pixels; far larger JPEGs are decoded at reduced scale.

        Raises:
            ImageError: empty, too_large, unsupported_format, too_many_pixels or corrupt.
        """
        if not data:
            raise ImageError(ErrorCode.EMPTY, "the object has no bytes")
        if len(data) > limits.max_bytes:
            raise ImageError(ErrorCode.TOO_LARGE, f"{len(data):,} bytes; the limit is {limits.max_bytes:,}")
        self._limits = limits
        try:
            self._image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = self._image.size
            _check_pixels(width, height, limits)
            frames = 1 if self._image.format == "MPO" else int(getattr(self._image, "n_frames", 1))
            if target_size and self._image.format in ("JPEG", "MPO"):
                side = max(2 * target_size, MIN_REDUCED)
                self._image.draft(None, (side, side))
        except PARSER_ERRORS as error:
            raise _unreadable(data, error) from None
        image_format = "JPEG" if self._image.format == "MPO" else str(self._image.format)
        self.header = ImageHeader(image_format, width, height, max(frames, 1))

    def frames(self) -> Iterator[tuple[int, Image.Image]]:
        """Up to `max_frames` frames, evenly spread, first and last among them: (index, upright RGB picture).

        Raises:
            ImageError: corrupt or too_many_pixels.
        """
        for index in spread(self.header.frames, self._limits.max_frames):
            try:
                if index:
                    self._image.seek(index)
                    _check_pixels(*self._image.size, self._limits)
                self._image.load()
                picture = upright(rgb(self._image), _orientation(self._image))
                # The file's own picture becomes the next frame's.
                yield index, picture.copy() if picture is self._image and self.header.frames > 1 else picture
            except PARSER_ERRORS as error:
                raise _broken(error) from None


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` of the indexes 0 … count-1, evenly spread, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, limit).round()})


def rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB: transparency over white, 16 bits scaled to 8."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_to_8_bits(np.asarray(image, dtype=np.float64)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as EXIF orientation 1 to 8 asks; other values are ignored."""
    turn = _TRANSPOSE.get(orientation)
    return image.transpose(turn) if turn is not None else image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except PARSER_ERRORS:  # broken metadata does not make a picture unreadable
        return 1
    return value if isinstance(value, int) else 1


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """32-bit grey levels as uint8, by the range they use: 0 to 1, 8 bits, 16 bits, or whatever is there."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if low >= 0.0:
        ceiling = next((c for c in (1.0, 255.0, 65535.0) if high <= c), high)
        return (values * (255.0 / ceiling)).astype(np.uint8)
    return ((values - low) * (255.0 / (high - low))).astype(np.uint8)


def _check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            ErrorCode.TOO_MANY_PIXELS, f"{width} x {height} = {width * height:,} pixels; the limit is {limits.max_pixels:,}"
        )


def _unreadable(data: bytes, error: BaseException) -> ImageError:
    """Why the header cannot be read."""
    riff = data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    bitmap = data.startswith(b"BM") and not any(data[6:10])
    isobmff = data[4:8] == b"ftyp" and data[8:12] in _BRANDS
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

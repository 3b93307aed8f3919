"""From Pillow's many modes to upright RGB, a band at a time, so that a large picture is held twice and never four times."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Convert = Callable[[Image.Image], Image.Image]
"""from RGB to RGB of other colours"""

BAND = 1 << 18
"""Pixels that are converted at a time."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def rgb(image: Image.Image, convert: Convert | None = None) -> Image.Image:
    """Any Pillow mode as RGB: transparency over white, 16 bits scaled to 8. An RGB picture is returned as it is.

    `convert` makes sRGB of the colours, before they are laid over white.
    """
    if image.mode == "RGB" and "transparency" not in image.info and convert is None:
        return image
    levels = _levels(image) if image.mode in ("I", "F") else None
    if image.width * image.height <= BAND:
        return _rgb(image, levels, convert)
    result = Image.new("RGB", image.size)
    for box in _bands(image.size):
        result.paste(_rgb(image.crop(box), levels, convert), box)
    return result


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as EXIF orientation 1 to 8 asks; other values are ignored."""
    turn = _TRANSPOSE.get(orientation)
    return image.transpose(turn) if turn is not None else image


@dataclass(frozen=True, slots=True)
class _Levels:
    """How grey levels of 32 bits become 8: `(value - low) * factor`."""

    low: float
    factor: float

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        return ((values - self.low if self.low else values) * self.factor).astype(np.uint8)


def _rgb(image: Image.Image, levels: _Levels | None, convert: Convert | None) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _of_16_bits(image)
    elif levels is not None:
        image = Image.fromarray(levels.apply(_values(image)))
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if convert is not None:
            alpha = image.getchannel("A")
            image = convert(image.convert("RGB")).convert("RGBA")
            image.putalpha(alpha)
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    image = image if convert is not None and image.mode == "CMYK" else image.convert("RGB")
    return convert(image) if convert is not None else image


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Grey, with alpha if one level is transparent."""
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of at most `BAND` pixels that cover a picture."""
    width, height = size
    across = min(width, BAND)
    down = max(1, BAND // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


def _values(image: Image.Image) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _levels(image: Image.Image) -> _Levels:
    """Of 32-bit grey levels, by the range they use: 0 to 1, 8 bits, 16 bits, or whatever is there."""
    low = high = 0.0
    for box in _bands(image.size):
        values = _values(image.crop(box))
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low >= 0.0:
        return _Levels(0.0, 255.0 / next((c for c in (1.0, 255.0, 65535.0) if high <= c), high))
    return _Levels(low, 255.0 / (high - low))

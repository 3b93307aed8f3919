"""open_clip's evaluation preprocessing, up to the uint8 crop, so that pixels stay one byte each until they are on the device.

The same steps as `open_clip.transform.image_transform(is_train=False)`. `exact` is Pillow alone, bit-exact with it; `fast`
resizes with torch's SIMD code, which differs from that by a level or two.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moderation.images.pixels import Convert
from moderation.images.reduction import Reduction

DECODING = "decoding 2"
"""How files become pictures, a part of every model's fingerprint: 2 shows colours and damage as browsers do."""
MAX_ASPECT = 32
"""A picture longer than this many times its width is cut before it is resized."""

Resize = Literal["fast", "exact"]
"""What resizes pictures: torch, or Pillow with the bits of open_clip."""
_MOST = 1 << 22
"""Pixels of the largest picture that lies in one piece of Pillow's memory. Of larger ones torch would need a copy: Pillow
resizes these."""
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
RESIZE_MODES = ("shortest", "longest", "squash")


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its pictures."""

    size: int
    """S: height and width of the model's input"""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill: int = 0
    """grey value of the padding that `longest` needs, 0 to 255"""
    resize: Resize = field(default="exact", repr=False)
    """not in the text that fingerprints are made of, which says `fast` by itself: what `exact` made earlier stays valid"""

    def __call__(
        self, image: Image.Image, reduction: Reduction | None = None, colours: Convert | None = None
    ) -> NDArray[np.uint8]:
        """An RGB picture of any size as uint8 [S, S, 3].

        Args:
            image: the picture.
            reduction: that of a picture decoded at reduced scale.
            colours: makes sRGB of it, once it is small; pictures of other modes than RGB are those that it takes.
        """
        if reduction is None and self.resize_mode == "shortest":
            image = _within(image, MAX_ASPECT)
        if self.resize == "fast" and image.mode == "RGB" and image.width * image.height <= _MOST:
            whole = Reduction(image.size, (0.0, 0.0, float(image.width), float(image.height)))
            return self._by_torch(image, reduction or whole, colours)
        if reduction:
            return self._from_reduced(image, reduction, colours)
        resized = image.resize(self.resized(image.size), RESAMPLING[self.interpolation])
        return np.asarray(_center(resized, self.size, self.fill, colours))

    def _by_torch(self, image: Image.Image, whole: Reduction, colours: Convert | None) -> NDArray[np.uint8]:
        from moderation.model.fast_resizing import Axis, resized_part  # noqa: PLC0415 - torch is loaded only where it is needed

        wide, high = self.resized(whole.size)
        left, top, right, bottom = whole.box
        across = Axis(left, right, wide, _start(wide, self.size), min(wide, self.size))
        down = Axis(top, bottom, high, _start(high, self.size), min(high, self.size))
        resized = resized_part(image, across, down, self.interpolation)
        return np.asarray(_center(resized, self.size, self.fill, colours))

    def _from_reduced(self, image: Image.Image, reduction: Reduction, colours: Convert | None) -> NDArray[np.uint8]:
        """What the whole picture would give, as nearly as can be, by one resize straight to the crop."""
        wide, high = self.resized(reduction.size)
        left, top, right, bottom = reduction.box
        (left, right), (top, bottom) = _kept(left, right, wide, self.size), _kept(top, bottom, high, self.size)
        size = (min(wide, self.size), min(high, self.size))
        resized = image.resize(size, RESAMPLING[self.interpolation], (left, top, right, bottom))
        return np.asarray(_center(resized, self.size, self.fill, colours))

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height after resizing, before cropping or padding."""
        width, height = size
        if self.resize_mode == "squash":
            return self.size, self.size
        if self.resize_mode == "longest":
            ratio = max(width, height) / self.size
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        # torchvision's Resize cuts the longer side off to whole pixels.
        if width <= height:
            return self.size, int(self.size * height / width)
        return int(self.size * width / height), self.size


def _within(image: Image.Image, aspect: int) -> Image.Image:
    """The middle of a very long picture, the only part that the crop keeps; resizing all of it could take gigabytes."""
    width, height = image.size
    longest = aspect * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))


def _kept(low: float, high: float, resized: int, size: int) -> tuple[float, float]:
    """What a crop of `size` pixels from the middle keeps of an axis that reaches from `low` to `high` and becomes `resized`."""
    start = _start(resized, size)
    step = (high - low) / resized
    return low + start * step, min(high, low + (start + min(size, resized)) * step)


def _start(resized: int, size: int) -> int:
    """Where a crop of `size` pixels from the middle begins."""
    return max(0, round((resized - size) / 2.0))


def _center(image: Image.Image, size: int, fill: int, colours: Convert | None) -> Image.Image:
    if colours is not None:
        image = colours(_cropped(image, size))
    if image.width < size or image.height < size:
        canvas = Image.new("RGB", (max(size, image.width), max(size, image.height)), (fill, fill, fill))
        canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
        image = canvas
    return _cropped(image, size)


def _cropped(image: Image.Image, size: int) -> Image.Image:
    """The middle, of those sides that are longer than `size`."""
    if max(image.size) <= size:
        return image
    left, top = _start(image.width, size), _start(image.height, size)
    return image.crop((left, top, min(image.width, left + size), min(image.height, top + size)))

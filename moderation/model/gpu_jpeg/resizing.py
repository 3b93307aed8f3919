"""Pillow's resizing on the picture's device, as two matrix products that compute only the part that is kept.

The coefficients are those of Pillow's `Resample.c`; as there, levels are rounded between the two. Results differ from Pillow's
by a level here and there, on the CPU and on a GPU alike.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

Filter = Literal["bicubic", "bilinear", "box"]
_SUPPORT: dict[Filter, float] = {"bicubic": 2.0, "bilinear": 1.0, "box": 0.5}


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a resized picture, and the part of it that is wanted."""

    length: int
    """pixels before"""
    resized: int
    """pixels after"""
    low: int
    high: int
    """the wanted part, `low` up to but not including `high`"""

    @classmethod
    def whole(cls, length: int, resized: int) -> "Span":
        """All of it."""
        return cls(length, resized, 0, resized)


def resize(levels: torch.Tensor, across: Span, down: Span, kind: Filter) -> torch.Tensor:
    """Whole levels 0 to 255 as float32 [C, H, W] to such levels [C, down.high - down.low, across.high - across.low]."""
    if across != Span.whole(across.length, across.length):
        levels = _rounded(levels @ _weights(across, kind, levels.device).T)
    if down != Span.whole(down.length, down.length):
        levels = _rounded(_weights(down, kind, levels.device) @ levels)
    return levels


def grey(levels: torch.Tensor) -> torch.Tensor:
    """RGB levels as float32 [3, H, W] to grey ones [1, H, W], with Pillow's arithmetic: whole numbers, exact in float32."""
    red, green, blue = levels
    mixed: torch.Tensor = red * 19595 + green * 38470 + blue * 7471 + 0x8000
    return mixed.div_(0x10000).floor_()[None]


def upright(picture: torch.Tensor, orientation: int) -> torch.Tensor:
    """A picture [C, H, W] turned as EXIF orientation 1 to 8 asks; other values are ignored."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(1, 2)
    flipped = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation)
    return picture.flip(flipped) if flipped else picture


def _rounded(values: torch.Tensor) -> torch.Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)


@lru_cache(maxsize=64)  # pictures come in few sizes; a matrix takes up to some megabytes
def _weights(span: Span, kind: Filter, device: torch.device) -> torch.Tensor:
    """Float32 [high - low, length]: how much of each pixel goes into each wanted one; rows sum up to 1."""
    scale = span.length / span.resized
    stretch = max(scale, 1.0)
    support = _SUPPORT[kind] * stretch
    centre = (torch.arange(span.low, span.high, dtype=torch.float64, device=device)[:, None] + 0.5) * scale
    pixel = torch.arange(span.length, dtype=torch.float64, device=device)[None, :]
    inside = (pixel >= (centre - support + 0.5).trunc()) & (pixel < (centre + support + 0.5).trunc())
    weights = torch.where(inside, _response((pixel - centre + 0.5) / stretch, kind), 0.0)
    return weights.div_(weights.sum(dim=1, keepdim=True)).to(torch.float32)


def _response(offset: torch.Tensor, kind: Filter) -> torch.Tensor:
    """Of a filter, at offsets in pixels of the smaller picture. Bicubic is Keys' with a = -1/2."""
    if kind == "box":
        return ((offset > -0.5) & (offset <= 0.5)).to(offset.dtype)
    distance = offset.abs()
    if kind == "bilinear":
        return (1.0 - distance).clamp(min=0.0)
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = -0.5 * (((distance - 5.0) * distance + 8.0) * distance - 4.0)
    return torch.where(distance < 1.0, near, torch.where(distance < 2.0, far, 0.0))

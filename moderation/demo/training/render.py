"""Draws one emoji glyph on a random background: the same seed gives the same picture.

Training, evaluation and the demo images share this renderer, so it is written free of scale: every random choice is
a fraction of the canvas. Nothing here needs torch.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONT_NAME = "NotoColorEmoji.ttf"
FONT_PLACES = (
    "/usr/share/fonts/truetype/noto",
    "/usr/share/fonts/noto",
    "/usr/share/fonts/google-noto-emoji",
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/opt/homebrew/share/fonts",
)
BITMAP_SIZE = 109  # the one bitmap size the font holds
GLYPH_SIDE = 136

_SMOOTH = Image.Resampling.BICUBIC
_LINEAR = Image.Resampling.BILINEAR
_BLOCKS = Image.Resampling.NEAREST
_LEVELS = np.arange(256, dtype=np.float64)


class FontMissingError(Exception):
    """The emoji font is not on this machine."""


def find_font(path: Path | None = None) -> Path:
    """The colour emoji font: `path` if given, else the first of the usual places.

    Raises FontMissingError, whose text names every place tried.
    """
    tried = [path] if path else [Path(place) / FONT_NAME for place in FONT_PLACES]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    places = ", ".join(str(candidate) for candidate in tried)
    raise FontMissingError(f"{FONT_NAME} not found (tried {places}): install Noto Color Emoji or pass --font PATH")


@lru_cache(maxsize=2)
def _font(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size=BITMAP_SIZE)


def draw_glyph(glyph: str, font: Path) -> Image.Image | None:
    """`glyph` as a square RGBA picture cut to its ink and centred, or None where the font draws nothing."""
    canvas = Image.new("RGBA", (GLYPH_SIDE * 2, GLYPH_SIDE * 2), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((GLYPH_SIDE // 2, GLYPH_SIDE // 2), glyph, font=_font(font), embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        return None
    ink = canvas.crop(box)
    side = max(ink.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square


def _background(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A random background: white, one colour, a gradient, blotches, grain, stripes, blocks or a mix of them."""
    kind = int(rng.integers(0, 8))
    base = rng.integers(0, 256, 3)
    spread = float(rng.uniform(15, 70))
    if kind in {0, 7}:
        plain = base if kind == 0 else np.full(3, 255)
        return Image.new("RGB", size, (int(plain[0]), int(plain[1]), int(plain[2])))
    how = _LINEAR
    if kind == 1:  # gradient
        colors: NDArray[Any] = rng.integers(0, 256, (2, 2, 3))
    elif kind == 2:  # blotches
        colors, how = rng.integers(0, 256, (int(rng.integers(3, 7)), int(rng.integers(3, 7)), 3)), _SMOOTH
    elif kind == 3:  # grain
        side = int(rng.integers(16, 49))
        colors = base + rng.normal(0, spread, (side, side, 3))
    elif kind == 4:  # stripes
        lines = base + rng.normal(0, spread, (int(rng.integers(3, 14)), 1, 3))
        colors, how = lines if rng.random() < 0.5 else lines.transpose(1, 0, 2), _BLOCKS
    elif kind == 5:  # blocks
        side = int(rng.integers(3, 10))
        colors, how = base + rng.normal(0, spread, (side, side, 3)), _BLOCKS
    else:
        blotches = _enlarge(rng.integers(0, 256, (3, 3, 3)), size, _SMOOTH)
        return Image.blend(blotches, _enlarge(base + rng.normal(0, spread, (32, 32, 3)), size, _LINEAR), 0.4)
    return _enlarge(colors, size, how)


def _enlarge(colors: NDArray[Any], size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    return Image.fromarray(np.clip(colors, 0, 255).astype(np.uint8)).resize(size, how)


def _paste(canvas: Image.Image, glyph: Image.Image, rng: np.random.Generator) -> None:
    """Put the glyph inside the canvas's central square, which is what a model's preprocessing keeps."""
    side = min(canvas.size)
    angle = float(rng.uniform(-25, 25))
    turned = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    wanted = max(8, round(side * float(rng.uniform(0.5, 0.98)) / turned))
    ink = glyph.resize((wanted, wanted), _SMOOTH).rotate(angle, _LINEAR, expand=True)
    room = max(0, side - ink.width), max(0, side - ink.height)
    left = (canvas.width - side) // 2 + round(room[0] * float(rng.random()))
    top = (canvas.height - side) // 2 + round(room[1] * float(rng.random()))
    canvas.paste(ink, (left, top), ink)


def render(glyph: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """An RGB picture of `size` (width, height) with `glyph` at random size, place, turn and exposure."""
    canvas = _background(rng, size)
    _paste(canvas, glyph, rng)
    levels = _LEVELS * rng.uniform(0.75, 1.15) + rng.uniform(-18, 18)
    return canvas.point(np.clip(levels, 0, 255).astype(np.uint8).tolist() * 3)


def transparent(glyph: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """The same on a fully transparent background (RGBA)."""
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    _paste(canvas, glyph, rng)
    return canvas


def rng_for(purpose: str, *numbers: int) -> np.random.Generator:
    """The random stream for `purpose` ("train", "evaluate", "demo") and numbers: streams never overlap."""
    stream = {"train": 1, "evaluate": 2, "demo": 3}[purpose]
    return np.random.default_rng([20261121, stream, *numbers])


TRAIN_CANVAS = 96


def render_for_model(glyph: Image.Image, rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """What the model is fed in training: drawn larger and reduced bicubically, as open_clip's preprocessing does.

    Returns uint8 [side, side, 3].
    """
    picture = render(glyph, rng, (TRAIN_CANVAS, TRAIN_CANVAS))
    return np.asarray(picture.resize((side, side), _SMOOTH))

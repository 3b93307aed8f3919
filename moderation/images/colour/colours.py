"""From the colours of a file's profile to sRGB, as browsers convert them.

Most profiles change colours a little. These are applied to the small picture that the model sees, by a table: a sixth of a
millisecond. What turns colours into quite others is applied to every pixel before anything is averaged: two pictures can be
interleaved so that each shows under its own curve only.
"""

import io
from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

MAX_PROFILE = 4 << 20
"""Bytes. Larger profiles are refused, not ignored: browsers would use them."""
_ALIKE = 3
"""Levels that a profile may move a colour by and still count as sRGB."""
_CURVED = 32
"""Levels between the middle of two colours and what it becomes; beyond, averaging comes second."""
_ROUGH = 1.0
"""Levels that the table may be off."""
_KNOWN = 64
"""Profiles whose tables are kept, about a megabyte each; an eighth of that for large profiles."""
_SMALL = 1 << 16
"""Bytes of a profile that is not large."""

_BAND = 1 << 15
"""Pixels that a function takes at a time: it needs some hundred bytes for each."""
_SRGB = ImageCms.createProfile("sRGB")
_SPACES = {"RGB": (b"RGB ",), "L": (b"GRAY",), "CMYK": (b"CMYK",)}

Levels = NDArray[np.uint8]
"""[N, channels]"""


class UnmanagedColourError(ValueError):
    """The colours of a file mean something that cannot be worked out here."""


class BrokenProfileError(ValueError):
    """A profile that browsers ignore."""


class Conversion:
    """From a picture's own colours to sRGB. Thread-safe.

    Attributes:
        mode: of the pictures that it takes: RGB, or CMYK; what it makes is RGB.
        early: whether it must be applied before pixels are averaged.
    """

    def __init__(self, mode: str, exact: Callable[[Image.Image], Image.Image], *, wild: bool = False) -> None:
        self.mode = mode
        self._exact = exact
        self._table: NDArray[np.uint32] | None = None
        self.early = mode == "RGB" and (wild or _curved(self._levels))
        if mode == "RGB" and not self.early:
            self._table = self._made_table()

    def __call__(self, picture: Image.Image) -> Image.Image:
        """A picture as RGB of sRGB colours."""
        return self._exact(picture) if self._table is None else _by_table(picture, self._table)

    @property
    def plain(self) -> bool:
        """Whether colours stay what they are."""
        if self.mode != "RGB":
            return False
        grid = _grid(9)
        return bool(np.abs(self._levels(grid).astype(int) - grid).max() <= _ALIKE)

    def _levels(self, levels: Levels) -> Levels:
        picture = Image.fromarray(levels[None], self.mode) if self.mode == "RGB" else Image.fromarray(levels[None])
        found: Levels = np.asarray(self._exact(picture))[0]
        return found

    def _made_table(self) -> NDArray[np.uint32] | None:
        """What each 4×4×4 cell of colours becomes, less where in the cell the colour is; None if that is too rough."""
        steps = np.arange(64, dtype=np.uint8) * 4
        cells = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        low, high = self._levels(cells + 1).astype(np.int16), self._levels(cells + 2).astype(np.int16)
        base = ((low + high - 3 + 1) // 2).clip(0, 252).astype(np.uint32)
        blue, green, red = base.reshape(64, 64, 64, 3).transpose(2, 1, 0, 3).reshape(-1, 3).T[::-1]
        table = red | green << 8 | blue << 16
        tried = np.random.default_rng(0).integers(0, 256, (1024, 3), np.uint8)
        found = np.asarray(_by_table(Image.fromarray(tried[None]), table))[0]
        error = np.abs(found.astype(int) - self._levels(tried)).mean()
        return table if error <= _ROUGH else None


def _by_table(picture: Image.Image, table: NDArray[np.uint32]) -> Image.Image:
    pixels = np.frombuffer(picture.tobytes("raw", "RGBX"), "<u4")
    cell, part = pixels >> 2, pixels >> 4
    cell &= 0x3F
    part &= 0xFC0
    cell |= part
    np.right_shift(pixels, 6, out=part)
    part &= 0x3F000
    cell |= part
    found = table.take(cell, mode="clip")  # all are in range; this is the mode that does not check
    found += pixels & 0x030303
    return Image.frombytes("RGB", picture.size, found.data, "raw", "RGBX")


def _grid(steps: int) -> Levels:
    levels = np.linspace(0, 255, steps).round().astype(np.uint8)
    return np.array(list(product(levels, repeat=3)), np.uint8)


def _curved(convert: Callable[[Levels], Levels]) -> bool:
    """Whether the middle of two levels does not become the middle of what they become, in grey or in one channel."""
    for channels in ([0, 1, 2], [0], [1], [2]):  # of a single one, the end of the range is where all profiles bend
        level = np.arange(0, 256, 2) if len(channels) == 3 else np.arange(64, 194, 2)
        low, high = np.triu_indices(len(level), 1)
        ramp = np.full((256, 3), 128, np.uint8)
        ramp[:, channels] = np.arange(256)[:, None]
        found = convert(ramp).astype(np.int16)
        ends, middle = found[level[low]] + found[level[high]], found[(level[low] + level[high]) // 2]
        if np.abs(2 * middle - ends).max() > 2 * _CURVED:
            return True
    return False


def by_profile(profile: bytes, mode: str) -> Conversion | None:
    """By an ICC profile, for pictures of mode RGB, L or CMYK. None: they are sRGB.

    Raises:
        BrokenProfileError: the profile is broken, or of another kind of pictures.
        UnmanagedColourError: it is out of all proportion.
    """
    if len(profile) > MAX_PROFILE:
        raise UnmanagedColourError(f"a colour profile of {len(profile):,} bytes; the limit is {MAX_PROFILE:,}")
    return (_known if len(profile) <= _SMALL else _known_large)(profile, mode)


@lru_cache(maxsize=_KNOWN)
def _known(profile: bytes, mode: str) -> Conversion | None:
    return _by_profile(profile, mode)


@lru_cache(maxsize=_KNOWN // 8)
def _known_large(profile: bytes, mode: str) -> Conversion | None:
    return _by_profile(profile, mode)


def _by_profile(profile: bytes, mode: str) -> Conversion | None:
    space = profile[16:20]
    if profile[36:40] != b"acsp" or len(profile) < 132:
        raise BrokenProfileError("no ICC profile")
    if mode == "L" and space != b"GRAY":
        mode = "RGB"
    if space not in _SPACES[mode]:
        raise BrokenProfileError("a profile of other colours than the picture's")
    if mode == "RGB":  # browsers use those of printers too
        profile = profile[:12] + b"mntr" + profile[16:]
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise BrokenProfileError(str(error)) from None
    if mode == "L":
        return _useful(Conversion("RGB", _by_grey(transform)))
    return _useful(Conversion(mode, transform.apply, wild=b"A2B" in profile[128:2048]))  # a table may do anything


def by_function(function: Callable[[Levels], Levels]) -> Conversion | None:
    """By a function from RGB levels, uint8 [N, 3], to those of sRGB."""

    def exact(picture: Image.Image) -> Image.Image:
        pixels = np.asarray(picture)
        found = np.empty_like(pixels)
        rows = max(1, _BAND // pixels.shape[1])
        for top in range(0, len(pixels), rows):
            part = pixels[top : top + rows]
            found[top : top + rows] = function(part.reshape(-1, 3)).reshape(part.shape)
        return Image.fromarray(found)

    return _useful(Conversion("RGB", exact))


def _useful(conversion: Conversion) -> Conversion | None:
    return None if conversion.plain else conversion


def _by_grey(transform: ImageCms.ImageCmsTransform) -> Callable[[Image.Image], Image.Image]:
    """Grey pictures come as RGB whose channels are alike."""
    ramp = np.asarray(transform.apply(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))[0]
    curves = ramp.T.ravel().tolist()
    return lambda picture: picture.point(curves)

"""PDQ, the perceptual hash of pictures: near-identical ones differ in few of its 256 bits.

After "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (Facebook, 2019). The reference package must
be compiled where it is installed, which a machine with nothing but Python cannot do. Its filter and sampling are linear,
so that here they are two matrix products.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAME = 31
"""Pictures whose hashes differ in at most this many bits look the same (the paper's threshold)."""

_SIDE, _BITS = 64, 16
_MAX_SIDE = 512
"""Larger pictures are reduced first, as the paper advises."""

_FREQUENCY = np.arange(1, _BITS + 1)[:, None]
_DCT = (np.sqrt(2 / _SIDE) * np.cos(np.pi / 2 / _SIDE * _FREQUENCY * (2 * np.arange(_SIDE) + 1)[None, :])).astype(np.float32)


def pdq(picture: Image.Image) -> tuple[str, int]:
    """The hash of an RGB picture, and how much it has to tell.

    Returns:
        64 hex digits, and a quality of 0 to 100; below 50 (plain areas, little detail) the hash says little.
    """
    longest = max(picture.size)
    if longest > _MAX_SIDE:
        size = (max(1, picture.width * _MAX_SIDE // longest), max(1, picture.height * _MAX_SIDE // longest))
        picture = picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    luma = np.asarray(picture.convert("L"), np.float32)
    small = _sampling(luma.shape[0]) @ (luma @ _sampling(luma.shape[1]).T)
    spectrum = _DCT @ small @ _DCT.T
    bits = (spectrum > np.median(spectrum)).ravel()
    return np.packbits(bits[::-1]).tobytes().hex(), _quality(small)


def distance(one: str, other: str) -> int:
    """How many bits two hashes differ in, 0 to 256."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


@lru_cache(maxsize=1024)
def _sampling(length: int) -> NDArray[np.float32]:
    """Float32 [64, length]: from a line of pixels to 64 samples of its twice box-filtered self, as the reference takes them."""
    window = (length + 2 * _SIDE - 1) // (2 * _SIDE)
    half = (window + 2) // 2
    at, pixel = np.arange(length)[:, None], np.arange(length)[None, :]
    inside = (pixel >= at - (window - half)) & (pixel <= at + half - 1)
    blur = (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
    samples = ((np.arange(_SIDE) + 0.5) * length / _SIDE).astype(int)
    sampled: NDArray[np.float32] = blur[samples] @ blur
    return sampled


def _quality(small: NDArray[np.float32]) -> int:
    """The paper's: the sum of steps between neighbours, in per cent of the range, over 90."""
    steps = [np.abs(np.trunc(np.diff(small, axis=axis) * 100 / 255)).sum() for axis in (0, 1)]
    return min(100, int(sum(steps) / 90))

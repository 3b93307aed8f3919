"""PDQ, the perceptual hash of pictures: near-identical ones differ in few of its 256 bits.

After "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (Facebook, 2019). The reference package must
be compiled where it is installed, which a machine with nothing but Python cannot do. Its filter and sampling are linear, and
look at few pixels for each sample: here these are gathered and weighted, in small products that stay in one thread.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moderation.images.pixels import Convert

SAME = 31
"""Pictures whose hashes differ in at most this many bits look the same (the paper's threshold)."""

_SIDE, _BITS = 64, 16
_MAX_SIDE = 512
"""Larger pictures are reduced first, as the paper advises."""

_FREQUENCY = np.arange(1, _BITS + 1)[:, None]
_DCT = (np.sqrt(2 / _SIDE) * np.cos(np.pi / 2 / _SIDE * _FREQUENCY * (2 * np.arange(_SIDE) + 1)[None, :])).astype(np.float32)


def pdq(picture: Image.Image, colours: Convert | None = None) -> tuple[str, int]:
    """The hash of an RGB or grey picture, and how much it has to tell. `colours` makes sRGB of a picture, of its few samples.

    Returns:
        64 hex digits, and a quality of 0 to 100; below 50 (plain areas, little detail) the hash says little.
    """
    longest = max(picture.size, default=1)
    wide, high = (max(1, side * _MAX_SIDE // max(longest, _MAX_SIDE)) for side in picture.size)
    # What is far too large is brought near by whole factors first, the quickest way.
    factors = (max(1, picture.width // (2 * wide)), max(1, picture.height // (2 * high)))
    if factors != (1, 1):
        picture = picture.reduce(factors)
    if colours is None:
        small = _small(picture.convert("L"), wide, high)
    else:
        levels = [_small(band, wide, high).round().clip(0, 255).astype(np.uint8) for band in picture.split()]
        samples = colours(Image.merge(picture.mode, [Image.fromarray(band) for band in levels]))
        small = np.asarray(samples.convert("L"), np.float32)
    spectrum = _DCT @ small @ _DCT.T
    ordered = np.sort(spectrum, axis=None)
    median = (ordered[ordered.size // 2 - 1] + ordered[ordered.size // 2]) / 2
    bits = (spectrum > median).ravel()
    return np.packbits(bits[::-1]).tobytes().hex(), _quality(small)


def distance(one: str, other: str) -> int:
    """How many bits two hashes differ in, 0 to 256."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def _small(luma: Image.Image, wide: int, high: int) -> NDArray[np.float32]:
    """The 64×64 samples of one channel, of a picture that is to be reduced to `wide` by `high` pixels."""
    rows = _sampled(np.asarray(luma), high)
    return _sampled(np.ascontiguousarray(rows.T), wide).T


def _sampled(lines: NDArray[np.uint8] | NDArray[np.float32], reduced: int) -> NDArray[np.float32]:
    """Float32 [64, width]: the samples of lines of pixels, [height, width], whose number is to be reduced to `reduced`."""
    pixels, weights = _sampling(len(lines), reduced)
    samples: NDArray[np.float32] = (weights @ lines[pixels].astype(np.float32, copy=False))[:, 0]
    return samples


@lru_cache(maxsize=1024)
def _sampling(length: int, reduced: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which pixels of a line each of 64 samples takes, [64, k], and by how much, float32 [64, 1, k], as the reference does.

    The line is reduced to `reduced` pixels by averaging, and box-filtered twice.
    """
    window = (reduced + 2 * _SIDE - 1) // (2 * _SIDE)
    half = (window + 2) // 2
    pixel = np.arange(reduced)
    blur = (pixel - (window - half)).clip(0), (pixel + half).clip(max=reduced)
    edges = np.arange(reduced + 1) * (length / reduced)
    average = (edges[:-1] + 0.5).astype(int), (edges[1:] + 0.5).astype(int)
    sample, weight = np.arange(_SIDE), np.ones(_SIDE)
    at = ((sample + 0.5) * reduced / _SIDE).astype(int)
    for start, end in (blur, blur, average) if reduced < length else (blur, blur):
        counts = end[at] - start[at]
        steps = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        at = np.repeat(start[at], counts) + steps
        sample, weight = np.repeat(sample, counts), np.repeat(weight / counts, counts)
    matrix = np.bincount(sample * length + at, weight, _SIDE * length).reshape(_SIDE, length)
    first = (matrix > 0).argmax(axis=1)
    most = int((length - (matrix > 0)[:, ::-1].argmax(axis=1) - first).max())
    pixels = np.minimum(first, length - most)[:, None] + np.arange(most)
    return pixels, np.take_along_axis(matrix, pixels, axis=1)[:, None].astype(np.float32)


def _quality(small: NDArray[np.float32]) -> int:
    """The paper's: the sum of steps between neighbours, in per cent of the range, over 90."""
    steps = (small[1:] - small[:-1], small[:, 1:] - small[:, :-1])
    return min(100, int(sum(np.abs(np.trunc(step * 100 / 255)).sum() for step in steps) / 90))

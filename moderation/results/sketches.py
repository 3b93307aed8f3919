"""Short sketches of embeddings: small enough for a receipt, good enough to say whether two images look alike. Pure.

A sketch is a random projection (Johnson and Lindenstrauss 1984; with signs, Achlioptas 2003), rounded to bytes. The cosine of
two sketches is that of the embeddings, give or take 0.01 where it is about 0.95. No sum is rounded on the way, so that
sketches are the same on every machine and however images are cut into shards.
"""

import base64
import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIZE = 128
"""Bytes of a sketch, at most; an embedding that is no longer is kept as it is."""
ALIKE = 0.9
"""From this cosine on, two images look alike: the same one cropped, recoloured or turned a little."""
_NEAREST = 0.6
"""What is less like the first of a group does not belong to it, however many images lie between."""
_STEPS = 32
"""Images of a group whose own likes are looked for, at most: a bound for time."""
_BLOCK = 1024
"""Embeddings projected at a time."""


def sketches(vectors: NDArray[np.float16]) -> NDArray[np.int8]:
    """The sketches [N, K] of embeddings [N, D]; K is the lesser of D and `SIZE`."""
    count, dim = vectors.shape
    found = np.empty((count, min(dim, SIZE)), np.int8)
    for start in range(0, count, _BLOCK):
        # Sums of float16 are exact in float64, in whatever order they are added.
        part = vectors[start : start + _BLOCK].astype(np.float64)
        part = part @ _signs(dim) if dim > SIZE else part
        most = np.abs(part).max(axis=1, initial=0.0, keepdims=True)
        found[start : start + _BLOCK] = np.rint(part * (127.0 / np.where(most > 0, most, 1.0)))
    return found


class Likeness:
    """Which of N sketches are like each other."""

    def __init__(self, found: NDArray[np.int8]) -> None:
        """Sketches [N, K]. One of zeros, or of no length, is like none."""
        self._whole = found.astype(np.float32)  # sums of whole numbers below 2^24 are exact
        self._lengths = np.sqrt(np.square(self._whole).sum(axis=1, dtype=np.float64))

    def group(self, one: int, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[N] which of those `among` [N] are like one of them, or like one that is: a picture and its rotations are a chain."""
        among = among & (self._cosines(np.array([one]))[0] >= _NEAREST)
        group = np.zeros(len(among), np.bool_)
        group[one] = True
        last, left = np.array([one]), _STEPS
        while len(last) and left > 0:
            left -= len(last)
            new = (self._cosines(last) >= ALIKE).any(axis=0) & among & ~group
            group |= new
            last = np.flatnonzero(new)[: max(left, 0)]
        return group

    def _cosines(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        lengths = self._lengths[rows, None] * self._lengths
        products = (self._whole[rows] @ self._whole.T).astype(np.float64)
        cosines: NDArray[np.float64] = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        return cosines


def encoded(sketch: NDArray[np.int8]) -> str:
    """A sketch [K] as text."""
    return base64.b64encode(sketch.tobytes()).decode("ascii")


def decoded(texts: list[str]) -> NDArray[np.int8]:
    """Sketches [N, K] of texts. Those of another length than the longest are zeros: an image without one."""
    parts = [np.frombuffer(base64.b64decode(text), np.int8) for text in texts]
    size = max(map(len, parts), default=0)
    return np.array([part if len(part) == size else np.zeros(size, np.int8) for part in parts], np.int8).reshape(
        len(parts), size
    )


@cache
def _signs(dim: int) -> NDArray[np.float64]:
    """[dim, SIZE] of +1 and -1, the same ones everywhere."""
    bits = np.frombuffer(hashlib.shake_128(b"clip-moderation sketch").digest(dim * SIZE // 8), np.uint8)
    return np.where(np.unpackbits(bits), 1.0, -1.0).reshape(dim, SIZE)

"""Float16 vectors as float64, a block of one size at a time.

How a matrix product is rounded depends on its shape: in blocks of one size, neither the number of vectors nor their order shows
in what is computed of one of them.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 512
"""Vectors in a block."""
_DOUBLES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
"""Every float16 as float64, by its bits: looking them up is twenty times as fast as numpy's conversion."""


def double_blocks(vectors: NDArray[np.float16]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Vectors [N, D] as float64 [BLOCK, D], with the rows that a block holds; what is behind them in the last is padding.

    Each block is written over the one before.
    """
    doubles = np.zeros((BLOCK, vectors.shape[1]))
    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK]
        np.take(_DOUBLES, part.view(np.uint16), out=doubles[: len(part)], mode="clip")
        yield slice(start, start + len(part)), doubles

"""The PDQ hashes of a picture turned and mirrored, made of its hash alone.

A mirrored picture has the same DCT coefficients, the odd ones negated; one that is mirrored at its diagonal has the transposed
ones (the PDQ paper's dihedral hashes). The hash holds which coefficients lie above their median. Transposing is exact. Negating
is not: the median of the negated ones is another, though near to the first, since both are near to zero. `docs/lists.md` says
how far the results lie from the hashes of the turned pictures.
"""

import numpy as np
from numpy.typing import NDArray

TURNS = (
    "as it is", "mirrored left to right", "mirrored top to bottom", "turned by 180°",
    "mirrored at the diagonal", "turned by 90° clockwise", "turned by 90° counter-clockwise", "mirrored at the other diagonal",
)  # fmt: skip
"""What each of the eight variants shows."""

_SIDE = 16
_ODD = np.arange(1, _SIDE + 1) % 2 == 1


def turned(hashes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The eight variants of PDQ hashes, uint8 [N, 32].

    Returns:
        uint8 [8, N, 32], in the order of `TURNS`; the first are the hashes themselves.
    """
    rows = np.unpackbits(hashes, axis=1)[:, ::-1].reshape(-1, _SIDE, _SIDE)
    found = []
    for bits in (rows, rows.transpose(0, 2, 1)):
        for down, across in ((False, False), (False, True), (True, False), (True, True)):
            flips = (_ODD[:, None] & down) ^ (_ODD[None, :] & across)
            found.append(np.packbits((bits ^ flips).reshape(-1, _SIDE * _SIDE)[:, ::-1], axis=1))
    return np.stack(found)

"""Sets of millions of texts in 16 bytes each."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.bytes_]
"""128-bit BLAKE2b digests, dtype S16"""


def hashes(texts: Iterable[str]) -> Hashes:
    """The digest of each text."""
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(joined, "S16")


class HashSet:
    """A growing set of digests, kept as sorted arrays of which each is at least twice as long as the next.

    A digest is looked for by its first half, as a number; its second half decides.
    """

    def __init__(self) -> None:
        self._levels: list[tuple[_Halves, _Halves]] = []

    def __len__(self) -> int:
        return sum(len(first) for first, _ in self._levels)

    def add(self, found: Hashes) -> NDArray[np.bool_]:
        """Take in digests. Returns bool [N]: which of them are seen for the first time."""
        first, second = _halves(found)
        order = np.argsort(first, kind="stable")
        first, second = first[order], second[order]
        new = ~self._among(first, second)
        if (first[1:] == first[:-1]).any():
            alone = np.zeros(len(found), bool)
            alone[np.unique(found, return_index=True)[1]] = True
            new &= alone[order]
        level = first[new], second[new]
        while self._levels and len(self._levels[-1][0]) < 2 * len(level[0]):
            level = _merged(self._levels.pop(), level)
        if len(level[0]):
            self._levels.append(level)
        return _as_before(new, order)

    def contains(self, wanted: Hashes) -> NDArray[np.bool_]:
        """Bool [N]: which of the digests are in the set."""
        first, second = _halves(wanted)
        order = np.argsort(first)
        return _as_before(self._among(first[order], second[order]), order)

    def _among(self, first: "_Halves", second: "_Halves") -> NDArray[np.bool_]:
        """Which digests are in the set, of sorted ones: each level is walked through from its start to its end."""
        found = np.zeros(len(first), bool)
        for level, seconds in self._levels:
            at = level.searchsorted(first)
            left = np.flatnonzero(level[np.minimum(at, len(level) - 1)] == first)
            while len(left):
                found[left] |= seconds[at[left]] == second[left]
                at[left] += 1
                left = left[~found[left] & (at[left] < len(level))]
                left = left[level[at[left]] == first[left]]
        return found


_Halves = NDArray[np.uint64]


def _halves(digests: Hashes) -> tuple[_Halves, _Halves]:
    pairs = np.ascontiguousarray(digests).view(np.uint64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def _merged(one: tuple[_Halves, _Halves], other: tuple[_Halves, _Halves]) -> tuple[_Halves, _Halves]:
    first = np.concatenate([one[0], other[0]])
    order = np.argsort(first, kind="stable")
    return first[order], np.concatenate([one[1], other[1]])[order]


def _as_before(sorted_values: NDArray[np.bool_], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    values = np.empty(len(order), bool)
    values[order] = sorted_values
    return values

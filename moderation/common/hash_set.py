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
    """A growing set of digests, kept as sorted arrays of which each is at least twice as long as the next."""

    def __init__(self) -> None:
        self._levels: list[Hashes] = []

    def __len__(self) -> int:
        return sum(len(level) for level in self._levels)

    def add(self, found: Hashes) -> NDArray[np.bool_]:
        """Take in digests. Returns bool [N]: which of them are seen for the first time."""
        fresh = np.zeros(len(found), bool)
        fresh[np.unique(found, return_index=True)[1]] = True
        fresh &= ~self.contains(found)
        level = np.sort(found[fresh])
        while self._levels and len(self._levels[-1]) < 2 * len(level):
            level = np.sort(np.concatenate([self._levels.pop(), level]), kind="stable")
        if len(level):
            self._levels.append(level)
        return fresh

    def contains(self, wanted: Hashes) -> NDArray[np.bool_]:
        """Bool [N]: which of the digests are in the set."""
        found = np.zeros(len(wanted), bool)
        for level in self._levels:
            at = np.minimum(np.searchsorted(level, wanted), len(level) - 1)
            found |= level[at] == wanted
        return found

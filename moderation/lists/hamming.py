"""Which of a list's PDQ hashes lie within a Hamming distance of which images' hashes. Misses nothing.

Multi-index hashing (Norouzi, Punjani, Fleet: "Fast Exact Search in Hamming Space with Multi-Index Hashing", 2014): hashes that
differ in few bits have a piece that differs in very few, and such pieces are looked up. `chunks` has the tables.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moderation.lists.chunks import Candidates, ChunkTable, Plan, plan

Hashes = NDArray[np.uint8]
"""PDQ hashes, uint8 [N, 32]: the bytes that the hex digits say"""
Halves: TypeAlias = tuple[NDArray[np.complex128], NDArray[np.complex128]]
Columns: TypeAlias = tuple[NDArray[np.uint64], ...]
"""The same as four uint64 [N]"""

BITS = 256
_BLOCK = 1 << 15
_FEW = 1 << 14
_CANDIDATES = 1 << 20
"""Queries, and pairs, that are compared at once: memory is bounded by these, and arrays stay in the cache."""


@dataclass(frozen=True)
class Pairs:
    """Hashes that lie within the distance: entries of three arrays, in no order."""

    query: NDArray[np.int64]
    """[K] index of the image's hash"""
    entry: NDArray[np.int64]
    """[K] index of the list's hash"""
    distance: NDArray[np.int16]
    """[K] bits that differ"""

    def __len__(self) -> int:
        return len(self.query)


class HammingIndex:
    """A list's hashes [N, 32], to be searched by others within one distance."""

    def __init__(self, hashes: Hashes, distance: int) -> None:
        """Build the tables: some 4 s and 300 MB for a million hashes and a distance of 31.

        Raises:
            ValueError: the distance is not in 0 to 255, or the hashes have another shape.
        """
        if not 0 <= distance < BITS:
            raise ValueError(f"distance {distance}: give 0 to {BITS - 1}")
        self.distance = distance
        self._columns = columns_of(hashes)
        self._halves = _halves(hashes)
        self.plan: Plan = plan(distance, len(hashes))
        permuted = _permuted(hashes) if self.plan.widths else None
        self._tables = [] if permuted is None else [ChunkTable(key, part) for key, part in self.plan.keys(permuted)]

    def __len__(self) -> int:
        return len(self._columns[0])

    def pairs(self, queries: Hashes) -> Iterator[Pairs]:
        """Every pair within the distance, exactly once, in blocks of a bounded size.

        Args:
            queries: uint8 [Q, 32].
        """
        if not len(self) or not len(queries):
            return
        if not self._tables:
            yield from self._compared(columns_of(queries))
            return
        for start in range(0, len(queries), _BLOCK):
            part = queries[start : start + _BLOCK]
            halves = _halves(part)
            keys = [key for key, _ in self.plan.keys(_permuted(part))]
            for number, table in enumerate(self._tables):
                for query, entry in _gathered(table.candidates(keys[number], _CANDIDATES)):
                    found = self._verified(halves, query, entry)
                    if not len(found):
                        continue
                    # A pair that an earlier table shows as well has been reported.
                    fresh = np.ones(len(found), np.bool_)
                    for before, earlier in enumerate(self._tables[:number]):
                        fresh &= ~earlier.shows(keys[before][found.query], found.entry)
                    if fresh.any():
                        yield Pairs(found.query[fresh] + start, found.entry[fresh], found.distance[fresh])

    def nearest(self, queries: Hashes, threads: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int16], NDArray[np.int64]]:
        """Of each of Q hashes the nearest entry, the first of several equally near ones.

        Returns:
            int64 [Q] its index, -1 where none lies within the distance; int16 [Q] the distance, -1 likewise; int64 [Q] how many
            entries lie within the distance.
        """
        many = np.int64(len(self) + 1)
        none = BITS * many
        best, count = np.full(len(queries), none), np.zeros(len(queries), np.int64)

        def fill(start: int) -> None:
            part = slice(start, start + _BLOCK)
            for found in self.pairs(queries[part]):
                np.minimum.at(best[part], found.query, found.distance * many + found.entry)
                count[part] += np.bincount(found.query, minlength=len(count[part]))

        starts = range(0, len(queries), _BLOCK)
        if threads == 1 or len(starts) == 1:
            for start in starts:
                fill(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, starts))
        hit = best < none
        entry, distance = np.where(hit, best % many, -1), np.where(hit, best // many, -1)
        return entry, distance.astype(np.int16), count

    def _verified(self, halves: Halves, query: NDArray[np.int64], entry: NDArray[np.integer]) -> Pairs:
        """Which candidates are within the distance: the first half rules nearly all others out."""
        total = np.zeros(len(query), np.int16)
        for mine, theirs in zip(halves, self._halves, strict=True):
            words = (mine.take(query).view(np.uint64) ^ theirs.take(entry).view(np.uint64)).reshape(-1, 2)
            counts = np.bitwise_count(words)
            total += counts[:, 0]
            total += counts[:, 1]
            near = np.flatnonzero(total <= self.distance)
            query, entry, total = query[near], entry[near], total[near]
        return Pairs(query, entry.astype(np.int64), total)

    def _compared(self, words: Columns) -> Iterator[Pairs]:
        """Each with each: what is quickest for few entries, and for distances at which tables rule nothing out."""
        step = min(len(self), _BLOCK)
        rows = max(1, _BLOCK // step)
        for top in range(0, len(words[0]), rows):
            for left in range(0, len(self), step):
                total = np.zeros((len(words[0][top : top + rows]), len(self._columns[0][left : left + step])), np.uint16)
                for mine, theirs in zip(words, self._columns, strict=True):
                    total += np.bitwise_count(mine[top : top + rows, None] ^ theirs[None, left : left + step])
                row, at = np.nonzero(total <= self.distance)
                if len(row):
                    yield Pairs(row + top, at + left, total[row, at].astype(np.int16))


def _gathered(parts: Iterator[Candidates]) -> Iterator[Candidates]:
    """The same in parts of some size: comparing many at once costs less than many times a few."""
    waiting: list[Candidates] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part[0])
        if count >= _FEW:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Candidates]) -> Candidates:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([query for query, _ in parts]), np.concatenate([entry for _, entry in parts])


def columns_of(hashes: Hashes) -> Columns:
    """The four 64-bit words of hashes, uint8 [N, 32], each as a uint64 [N].

    Raises:
        ValueError: the hashes have another shape or dtype.
    """
    return tuple(np.ascontiguousarray(_checked(hashes).view(np.uint64).T))


def _checked(hashes: Hashes) -> Hashes:
    if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != BITS // 8:
        raise ValueError(f"hashes are uint8 [N, 32], not {hashes.dtype} {list(hashes.shape)}")
    return np.ascontiguousarray(hashes)


def _halves(hashes: Hashes) -> Halves:
    """The two halves of hashes, each [N], 16 bytes that one look gives; as numbers they mean nothing."""
    halves = _checked(hashes).view(np.complex128)
    return np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])


def _scattered() -> NDArray[np.uint64]:
    """Uint64 [32, 256, 4]: what each value of each byte of a hash becomes when all bits change places."""
    bits = np.zeros((BITS // 8, 256, BITS), np.uint8)
    values = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    places = np.argsort(np.random.default_rng(256).permutation(BITS)).reshape(BITS // 8, 8)
    for byte, place in enumerate(places):
        bits[byte][:, place] = values
    return np.packbits(bits, axis=2).view(np.uint64)


_SCATTERED = _scattered()
"""Pieces are made of scattered bits: neighbouring ones are alike in many pictures, and would fill few places of a table."""


def _permuted(hashes: Hashes) -> Hashes:
    found = np.zeros((len(hashes), 4), np.uint64)
    for byte, values in enumerate(_SCATTERED):
        found |= values.take(hashes[:, byte], axis=0)
    return found.view(np.uint8)

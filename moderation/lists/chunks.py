"""A piece of a hash as a number, and a table of which entries have which number within a few bits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Candidates: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32]]
"""Indexes of queries and of entries that might be near each other, both [K]."""

_BITS = 256
_LOW = 6
"""The last bits of a key say which bit of a table's 64-bit word is meant: one look answers for 64 keys."""
_WIDEST, _NARROWEST = 24, 10
_PROBES = 1 << 17
_PROBE_NS, _CANDIDATE_NS, _COMPARE_NS = 3.0, 60.0, 3.0
"""Measured on one core; they choose what is quickest, never what is right."""


@dataclass(frozen=True)
class Part:
    """A piece of the hash: `width` bits from bit `start` on, and how many of them may differ."""

    start: int
    width: int
    radius: int


@dataclass(frozen=True)
class Plan:
    """Into which pieces hashes are cut. None where comparing each with each is quicker."""

    widths: tuple[Part, ...]

    def keys(self, hashes: NDArray[np.uint8]) -> list[tuple[Keys, Part]]:
        """Of hashes, uint8 [N, 32], each piece as an int64 [N], with what it is."""
        padded = np.concatenate([hashes, np.zeros((len(hashes), 4), np.uint8)], axis=1)
        found = []
        for part in self.widths:
            key = np.zeros(len(hashes), np.int64)
            for at in range(part.start // 8, part.start // 8 + 4):
                key = key << 8 | padded[:, at]
            found.append((key >> (32 - part.start % 8 - part.width) & ((1 << part.width) - 1), part))
        return found


def plan(distance: int, entries: int) -> Plan:
    """The quickest of the plans that miss nothing.

    Of m pieces with radii r, some piece differs in at most its radius wherever the sum of all (r + 1) exceeds the distance:
    if each differed in r + 1 or more, the hashes would differ in more than the distance.
    """
    best: tuple[Part, ...] = ()
    cost = entries * _COMPARE_NS
    for radius in range(4):
        count = -(-(distance + 1) // (radius + 1))
        spare = count * (radius + 1) - (distance + 1)
        if _BITS // count < _NARROWEST or spare > count:
            continue
        edges = [n * _BITS // count for n in range(count + 1)]
        parts = tuple(
            Part(edges[n], min(edges[n + 1] - edges[n], _WIDEST), radius - (n < spare)) for n in range(count)
        )  # fmt: skip
        if any(part.radius < 0 for part in parts):
            continue
        probes = sum(_ball(part.width - _LOW, part.radius) for part in parts)
        candidates = sum(_ball(part.width, part.radius) * entries / 2**part.width for part in parts)
        nanoseconds = probes * _PROBE_NS + candidates * _CANDIDATE_NS
        if nanoseconds < cost:
            best, cost = parts, nanoseconds
    return Plan(best)


class ChunkTable:
    """Which entries have which key. A bit per possible key in 64-bit words, so that most questions end in the cache."""

    def __init__(self, keys: Keys, part: Part) -> None:
        self._radius = part.radius
        self._keys = keys.astype(np.int32)
        self._order = np.argsort(keys, kind="stable").astype(np.int32)
        ordered = keys[self._order]
        begins = np.flatnonzero(np.diff(ordered, prepend=-1))
        present = ordered[begins]
        self._first = np.append(begins, len(keys)).astype(np.int32)
        self._leading = self._order[begins]  # most keys have one entry only: one look gives it
        self._shared = np.diff(self._first) > 1
        size = 1 << max(0, part.width - _LOW)
        self._words = np.zeros(size, np.uint64)
        np.bitwise_or.at(self._words, present >> _LOW, np.uint64(1) << (present & 63).astype(np.uint64))
        self._rank = np.searchsorted(present, np.arange(size) << _LOW).astype(np.int32)
        masks = [_masks(part.width - _LOW, ones) for ones in range(part.radius + 1)]
        self._masks = np.concatenate(masks)
        self._ones = np.repeat(np.arange(len(masks)), [len(some) for some in masks])
        """how many bits each of these has set"""
        self._balls = np.stack([_low_balls(part.radius - ones) for ones in range(part.radius + 1)])

    def shows(self, keys: Keys, entries: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Bool [K]: whether `candidates` gives the pair of a query's key and an entry."""
        apart: NDArray[np.bool_] = np.bitwise_count(keys ^ self._keys[entries]) <= self._radius
        return apart

    def candidates(self, keys: Keys, most: int) -> Iterator[Candidates]:
        """Every pair of a query and an entry whose keys differ in at most the radius, once; some `most` at a time."""
        order = np.argsort(keys)
        high, low = keys[order] >> _LOW, keys[order] & 63
        allowed, count = self._balls[:, low], len(keys)
        step = max(1, _PROBES // max(1, count))
        for start in range(0, len(self._masks), step):
            part = slice(start, start + step)
            places = high[None, :] ^ self._masks[part, None]
            words = self._words.take(places)
            bits = words & allowed[self._ones[part]]
            hit = np.flatnonzero(bits != 0)
            if len(hit):
                # Division by one number is vectorised, the remainder is not.
                query = order.take(hit - hit // count * count)
                yield from self._expanded(query, places.take(hit), words.take(hit), bits.take(hit), most)

    def _expanded(
        self,
        query: NDArray[np.int64],
        place: NDArray[np.int64],
        words: NDArray[np.uint64],
        bits: NDArray[np.uint64],
        most: int,
    ) -> Iterator[Candidates]:
        """The entries behind each set bit of each word; `words`: the words with all their bits."""
        base = self._rank.take(place)
        while len(query):
            rest = bits & (bits - np.uint64(1))
            below = (bits ^ rest) - np.uint64(1)
            key = base + np.bitwise_count(words & below)
            yield query, self._leading.take(key)
            several = np.flatnonzero(self._shared.take(key))
            if len(several):
                yield from self._others(query[several], key[several], most)
            more = np.flatnonzero(rest != 0)
            query, words, base, bits = query[more], words[more], base[more], rest[more]

    def _others(self, query: NDArray[np.int64], key: NDArray[np.integer], most: int) -> Iterator[Candidates]:
        """The entries after the first behind each key; a key with more than `most` entries is given whole."""
        first = self._first.take(key) + 1
        length = self._first.take(key + 1) - first
        ends = length.cumsum(dtype=np.int64)
        cuts = np.flatnonzero(np.diff(ends // most)) + 1 if int(ends[-1]) > most else ()
        for top, bottom in pairwise((0, *cuts, len(query))):
            many = length[top:bottom]
            before = ends[top:bottom] - many
            shift = np.repeat(first[top:bottom] - (before - before[0]), many)
            shift += np.arange(len(shift))
            yield np.repeat(query[top:bottom], many), self._order.take(shift)


def _ball(width: int, radius: int) -> int:
    return sum(math.comb(max(width, 0), ones) for ones in range(radius + 1))


def _masks(width: int, ones: int) -> Keys:
    """All numbers of `width` bits of which `ones` are set."""
    return np.array([sum(1 << bit for bit in chosen) for chosen in combinations(range(width), ones)], np.int64)


def _low_balls(radius: int) -> NDArray[np.uint64]:
    """Uint64 [64]: for each number of six bits, as set bits, the numbers that differ from it in at most `radius` bits."""
    number = np.arange(64)
    near = np.bitwise_count(number[:, None] ^ number[None, :]) <= radius
    found: NDArray[np.uint64] = (near.astype(np.uint64) << number.astype(np.uint64)[None, :]).sum(axis=1, dtype=np.uint64)
    return found

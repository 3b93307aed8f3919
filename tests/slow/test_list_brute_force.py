"""A hash list of 100,000 entries against 100,000 hashes: by comparing each with each, nothing is missed or added."""

import numpy as np
import pytest

from moderation.lists.hamming import HammingIndex

COUNT, DISTANCE = 100_000, 31


def flipped(hashes: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each hash with so many of its bits turned."""
    found = np.empty_like(hashes)
    for start in range(0, len(hashes), 10_000):
        part = slice(start, start + 10_000)
        ranks = rng.random((len(hashes[part]), 256), np.float32).argsort(axis=1).argsort(axis=1)
        found[part] = np.packbits(np.unpackbits(hashes[part], axis=1) ^ (ranks < counts[part, None]), axis=1)
    return found


def each_with_each(entries: np.ndarray, queries: np.ndarray, distance: int) -> set[tuple[int, int, int]]:
    """(query, entry, distance) of all pairs, by products of ±1 vectors, which no part of the index uses."""
    signs = np.unpackbits(entries, axis=1).astype(np.float32) * 2 - 1
    found = set()
    for start in range(0, len(queries), 1000):
        products = (np.unpackbits(queries[start : start + 1000], axis=1).astype(np.float32) * 2 - 1) @ signs.T
        for query, entry in np.argwhere(products >= 256 - 2 * distance).tolist():
            found.add((query + start, entry, int(256 - products[query, entry]) // 2))
    return found


@pytest.mark.slow
def test_of_ten_billion_pairs_exactly_those_within_the_distance_are_found() -> None:
    rng = np.random.default_rng(100)
    entries = rng.integers(0, 256, (COUNT, 32), np.uint8)
    near = entries[rng.integers(0, COUNT, COUNT // 2)]
    queries = np.concatenate(
        [flipped(near, rng.integers(0, 64, len(near)), rng), rng.integers(0, 256, (COUNT - len(near), 32), np.uint8)]
    )
    expected = each_with_each(entries, queries, DISTANCE)
    assert len(expected) > COUNT // 5
    index = HammingIndex(entries, DISTANCE)
    assert index.plan.widths, "comparing each with each would be compared with itself"
    blocks = list(index.pairs(queries))
    rows = [row for b in blocks for row in zip(b.query.tolist(), b.entry.tolist(), b.distance.tolist(), strict=True)]
    assert len(rows) == len(expected)
    assert set(rows) == expected
    best: dict[int, tuple[int, int]] = {}
    for query, entry, distance in expected:
        best[query] = min(best.get(query, (256, 0)), (distance, entry))
    entry, distance, count = index.nearest(queries)
    assert set(np.flatnonzero(entry >= 0).tolist()) == set(best)
    assert all((int(distance[q]), int(entry[q])) == nearest for q, nearest in best.items())
    assert int(count.sum()) == len(expected)

"""The index against comparing each with each: it misses nothing, whatever the hashes are."""

import tracemalloc
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.lists.chunks import plan
from moderation.lists.hamming import HammingIndex


def random_hashes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)


def flipped(hashes: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each hash with so many of its bits flipped."""
    ranks = rng.random((len(hashes), 256)).argsort(axis=1).argsort(axis=1)
    return np.packbits(np.unpackbits(hashes, axis=1) ^ (ranks < counts[:, None]), axis=1)


def by_hand(entries: np.ndarray, queries: np.ndarray, distance: int) -> set[tuple[int, int, int]]:
    """(query, entry, distance) of all pairs, by the product of ±1 vectors, which no part of the index uses."""
    signs = [np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1 for hashes in (queries, entries)]
    found = set()
    for start in range(0, len(queries), 1024):
        apart = (256 - signs[0][start : start + 1024] @ signs[1].T) / 2
        for query, entry in zip(*np.nonzero(apart <= distance), strict=True):
            found.add((int(query) + start, int(entry), int(apart[query, entry])))
    return found


def by_index(entries: np.ndarray, queries: np.ndarray, distance: int) -> set[tuple[int, int, int]]:
    blocks = list(HammingIndex(entries, distance).pairs(queries))
    rows = [row for b in blocks for row in zip(b.query.tolist(), b.entry.tolist(), b.distance.tolist(), strict=True)]
    assert len(rows) == len(set(rows)), "a pair is reported twice"
    return set(rows)


def planted(entries: np.ndarray, queries: int, distance: int, seed: int) -> np.ndarray:
    """Queries near to entries, at distances around the limit, and others."""
    rng = np.random.default_rng(seed)
    near = entries[rng.integers(0, len(entries), queries // 2)]
    around = rng.integers(max(0, distance - 3), distance + 4, len(near))
    return np.concatenate([flipped(near, around, rng), random_hashes(queries - len(near), seed + 1)])


@pytest.mark.parametrize("distance", [0, 1, 7, 15, 16, 23, 31, 32, 33, 40, 48, 64])
def test_nothing_is_missed_at_any_distance(distance: int) -> None:
    entries = random_hashes(20_000, 1)
    queries = planted(entries, 1_000, distance, 2)
    expected = by_hand(entries, queries, distance)
    assert len(expected) > 80
    assert by_index(entries, queries, distance) == expected


def test_tables_are_used_where_they_are_quicker_and_not_elsewhere() -> None:
    assert plan(31, 1_000_000).widths
    assert not plan(31, 100).widths
    assert not plan(200, 1_000_000).widths


@pytest.mark.parametrize("distance", range(45))
@pytest.mark.parametrize("entries", [20_000, 10_000_000])
def test_pieces_do_not_overlap_and_their_radii_leave_no_gap(distance: int, entries: int) -> None:
    parts = plan(distance, entries).widths
    if not parts:
        return
    assert sum(part.radius + 1 for part in parts) > distance
    assert all(part.radius >= 0 for part in parts)
    assert all(one.start + one.width <= other.start for one, other in pairwise(parts))
    assert parts[-1].start + parts[-1].width <= 256


@pytest.mark.parametrize("distance", [30, 31, 32])
def test_the_limit_itself_is_within_and_one_more_is_not(distance: int) -> None:
    entries = random_hashes(5_000, 3)
    rng = np.random.default_rng(4)
    for apart, expected in ((distance, True), (distance + 1, False)):
        queries = flipped(entries[:300], np.full(300, apart), rng)
        entry, found, count = HammingIndex(entries, distance).nearest(queries)
        assert (entry == (np.arange(300) if expected else -1)).all()
        assert (found == (apart if expected else -1)).all()
        assert (count == int(expected)).all()


@cache
def index_of_some(distance: int) -> tuple[HammingIndex, np.ndarray]:
    entries = random_hashes(4_000, 12)
    return HammingIndex(entries, distance), entries


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 9, 31, 36]), st.lists(st.integers(0, 255), max_size=60))
def test_differences_at_any_places_are_seen(seed: int, distance: int, bits: list[int]) -> None:
    index, entries = index_of_some(distance)
    changed = np.unpackbits(entries[seed % 4_000])
    changed[list(set(bits))] ^= 1
    entry, found, _ = index.nearest(np.packbits(changed)[None])
    apart = len(set(bits))
    assert (entry[0], found[0]) == ((seed % 4_000, apart) if apart <= distance else (-1, -1))


def one_place(count: int, seed: int) -> np.ndarray:
    """All the same but for 40 bits: whole tables have one place only."""
    hashes = np.tile(random_hashes(1, seed), (count, 1))
    hashes[:, ::7] = random_hashes(count, seed + 1)[:, ::7]
    return hashes


def one_bit_apart(count: int, seed: int) -> np.ndarray:
    return flipped(np.tile(random_hashes(1, seed), (count, 1)), np.full(count, 20), np.random.default_rng(seed))


def zeros_and_ones(count: int, seed: int) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random((count, 1)) < 0.5, 0, 255).astype(np.uint8).repeat(32, axis=1)


@pytest.mark.parametrize("make", [one_place, one_bit_apart, zeros_and_ones])
@pytest.mark.parametrize("distance", [8, 31, 44])
def test_uneven_hashes_are_matched_right(make: object, distance: int) -> None:
    entries, queries = make(3_000, 5), make(150, 5)[::-1]  # type: ignore[operator]
    assert by_index(entries, queries, distance) == by_hand(entries, queries, distance)


def test_the_nearest_of_many_equal_entries_is_the_first_and_all_are_counted() -> None:
    entries = random_hashes(3_000, 6)
    entries[1_000:2_500] = entries[999]
    entry, distance, count = HammingIndex(entries, 31).nearest(entries[[2_000, 5, 999]])
    assert entry.tolist() == [999, 5, 999]
    assert distance.tolist() == [0, 0, 0]
    assert count.tolist() == [1501, 1, 1501]


@pytest.mark.slow
def test_memory_stays_bounded_where_everything_matches_everything() -> None:
    entries = np.zeros((20_000, 32), np.uint8)
    index = HammingIndex(entries, 31)
    tracemalloc.start()
    _, _, count = index.nearest(entries[:2_000])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count == 20_000).all()  # 40 million pairs
    assert most < 300e6


def test_none_is_near_to_none() -> None:
    none, some = random_hashes(0, 0), random_hashes(3, 0)
    assert HammingIndex(none, 31).nearest(some)[0].tolist() == [-1, -1, -1]
    assert len(HammingIndex(some, 31).nearest(none)[0]) == 0
    assert list(HammingIndex(random_hashes(5_000, 0), 31).pairs(none)) == []


@pytest.mark.parametrize("bad", [np.zeros((3, 31), np.uint8), np.zeros((3, 32), np.int64), np.zeros(32, np.uint8)])
def test_other_shapes_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        HammingIndex(bad, 31)
    with pytest.raises(ValueError, match="uint8"):
        list(HammingIndex(random_hashes(5_000, 0), 31).pairs(bad))


@pytest.mark.parametrize("distance", [-1, 256])
def test_other_distances_are_refused(distance: int) -> None:
    with pytest.raises(ValueError, match="give 0 to 255"):
        HammingIndex(random_hashes(3, 0), distance)


@pytest.mark.slow
def test_a_hundred_thousand_against_a_hundred_thousand() -> None:
    entries = random_hashes(100_000, 8)
    queries = planted(entries, 100_000, 31, 9)
    assert by_index(entries, queries, 31) == by_hand(entries, queries, 31)

"""Scores under a policy of everything that is stored: exact counts of all images, and the scores of those with labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.policy.compiled import CompiledPolicy
from moderation.policy.schema import Rule
from moderation.results.archive import Archive
from moderation.results.stored_images import StoredImages

STEPS = 100_000
"""Edges at which images are counted, to a score of 1: thresholds of up to five decimals are counted exactly."""


@dataclass(frozen=True)
class Counted:
    """All scored images by their score under one rule. Memory is the same for any number of images."""

    edges: NDArray[np.float32]
    """[E + 1] from the lowest score there can be"""
    at_least: NDArray[np.int64]
    """[E + 1] images with a score of at least the edge"""

    def above(self, threshold: float) -> int:
        """Images at or above a threshold; exact for thresholds of up to five decimals."""
        place = int(np.searchsorted(self.edges, np.float32(threshold)))
        return int(self.at_least[place]) if place < len(self.edges) else 0

    def lowest_with(self, most: float) -> float:
        """The lowest edge with at most so many images at or above it, above 1 if there is none."""
        place = int(np.argmax(self.at_least <= most)) if self.at_least[-1] <= most else len(self.edges)
        return round(place / STEPS - 1, 5)


@dataclass(frozen=True)
class Scores:
    """What an archive says under a policy."""

    rules: tuple[Rule, ...]
    """those that are scored: the columns"""
    uris: tuple[str, ...]
    """[N] labelled images that have scores"""
    scores: NDArray[np.float32]
    """[N, R] the highest over frames"""
    unreadable: frozenset[str]
    """labelled images that are known, but ended in an error"""
    images: int
    """all scored images"""
    counted: tuple[Counted, ...]
    """[R]"""
    first_day: datetime | None
    last_day: datetime | None
    """between these the images were last modified, UTC"""

    @property
    def days(self) -> int:
        """Days from the first to the last, both counted; 1 where nothing is known."""
        if self.first_day is None or self.last_day is None:
            return 1
        return (self.last_day.date() - self.first_day.date()).days + 1


@dataclass(frozen=True, slots=True)
class _Part:
    """Of one shard."""

    uris: list[str]
    scores: NDArray[np.float32]
    unreadable: list[str]
    images: int
    bins: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    days: tuple[datetime, datetime] | None


def collect_scores(archive: Archive, compiled: CompiledPolicy, labelled: Iterable[str]) -> Scores:
    """Score all images of an archive. Memory grows with the labelled ones only.

    Raises:
        OutputError: a file cannot be read.
    """
    wanted = pa.array(sorted(set(labelled)), pa.string())
    edges = (np.arange(2 * STEPS + 1, dtype=np.float64) / STEPS - 1).astype(np.float32)
    rules = compiled.rules
    counts = np.zeros((len(rules), len(edges)), np.int64)
    uris: list[str] = []
    found: list[NDArray[np.float32]] = [np.empty((0, len(rules)), np.float32)]
    unreadable: set[str] = set()
    days: list[datetime] = []
    images = 0
    for part in archive.each(("last_modified",), lambda stored: _part(stored, compiled, wanted, edges)):
        uris += part.uris
        found.append(part.scores)
        unreadable.update(part.unreadable)
        images += part.images
        days = [min((*days, *part.days)), max((*days, *part.days))] if part.days else days
        for row, (bins, count) in zip(counts, part.bins, strict=True):
            row[bins] += count
    at_least = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    return Scores(
        rules=rules,
        uris=tuple(uris),
        scores=np.concatenate(found),
        unreadable=frozenset(unreadable),
        images=images,
        counted=tuple(Counted(edges, row) for row in at_least),
        first_day=days[0] if days else None,
        last_day=days[1] if days else None,
    )


def best_of_frames(scores: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """From scores [F, R] of frames to the highest [N, R] of each image; image i has the frames starts[i] to starts[i + 1]."""
    if len(starts) - 1 == len(scores):  # one frame each, or no image at all
        return scores
    best: NDArray[np.float32] = np.maximum.reduceat(scores, starts[:-1], axis=0)
    return best


def _part(images: StoredImages, compiled: CompiledPolicy, wanted: pa.Array, edges: NDArray[np.float32]) -> _Part:
    scores = best_of_frames(compiled.scores(images.vectors), images.starts)
    labelled = pc.is_in(images.scored["uri"], value_set=wanted)
    errors = images.errors["uri"].filter(pc.is_in(images.errors["uri"], value_set=wanted))
    return _Part(
        uris=images.scored["uri"].filter(labelled).to_pylist(),
        scores=scores[np.asarray(labelled, np.bool_)],
        unreadable=errors.to_pylist(),
        images=len(scores),
        bins=[np.unique(_bins(column, edges), return_counts=True) for column in scores.T],
        days=_days(images.scored["last_modified"]),
    )


def _bins(scores: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.int64]:
    """The highest edge that each score reaches, compared in float32 as thresholds are."""
    near = np.clip(np.floor((scores.astype(np.float64) + 1) * STEPS), 0, len(edges) - 1).astype(np.int64)
    near -= (scores < edges[near]) & (near > 0)
    above = np.minimum(near + 1, len(edges) - 1)
    near += (scores >= edges[above]) & (above > near)
    return near


def _days(column: pa.ChunkedArray) -> tuple[datetime, datetime] | None:
    found = pc.min_max(column).as_py()
    return (found["min"].astimezone(UTC), found["max"].astimezone(UTC)) if found["min"] is not None else None

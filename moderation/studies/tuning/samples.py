"""Labels with their scores, each representing a share of the images in production. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moderation.measures.intervals import Estimate, Numbers, Shares, local_level, proportion, ratio

Basis = Literal["prevalence", "weights", "labels"]
"""What says how common positives are: the user, the labels' weights, or the labels as they are."""

_MOST_WEIGHTS = 20
_GROUPS = 8


@dataclass(frozen=True, slots=True)
class _Cell:
    """Labels that were drawn by themselves."""

    mass: float
    size: float
    positives: bool
    """whether there may be any"""
    negatives: bool
    rows: NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """n labelled images under one score, the highest score first. There are positives and negatives among them."""

    scores: NDArray[np.float32]
    """[n]"""
    truth: NDArray[np.bool_]
    """[n]"""
    mass: Numbers
    """[n] the share of all images that each stands for; they add up to 1"""
    groups: NDArray[np.int64]
    """[n] which of the independently drawn groups it belongs to"""
    basis: Basis
    known: Numbers | None = None
    """[n + 1] known[k]: the largest share of all images that a threshold can flag which flags the first k labels, that is,
    the share with a score above that of the next one; None where that was not counted"""

    @cached_property
    def positives(self) -> int:
        """Labels that are true."""
        return int(self.truth.sum())

    @cached_property
    def negatives(self) -> int:
        """Labels that are false."""
        return len(self.truth) - self.positives

    @cached_property
    def prevalence(self) -> float:
        """The share of positives among all images."""
        return float(self.mass[self.truth].sum())

    @cached_property
    def level(self) -> float:
        """Of single intervals, at which the whole curve is covered 95 times in 100."""
        return local_level(len(self.scores))

    @cached_property
    def _cells(self) -> tuple[_Cell, ...]:
        found = []
        for group in np.unique(self.groups):
            rows = self.groups == group
            mass = self.mass[rows]
            given = self.basis == "prevalence"  # then a group is a class
            one = bool(self.truth[rows][0])
            size = float(mass.sum() ** 2 / (mass**2).sum())
            found.append(_Cell(float(mass.sum()), size, not given or one, not given or not one, rows))
        return tuple(found)

    def under(self, scores: NDArray[np.float32]) -> "Sample":
        """The same labels under other scores [n], which are given in the order of these."""
        return _sorted(scores, self.truth, self.mass, self.groups, self.basis)

    def prevalence_interval(self) -> tuple[float, float] | None:
        """Its 95 % interval; None where the user gave it."""
        if self.basis == "prevalence":
            return None
        everything = np.array([len(self.scores) - 1])
        found = ratio([self._flagged(cell, everything) for cell in self._cells], 0.05)
        return float(found.low[0]), float(found.high[0])

    def precision(self, last: NDArray[np.int64]) -> Estimate:
        """Of the images with the first last[k] + 1 scores: the share that is positive. `last` may be -1: none of them."""
        shares = [self._flagged(cell, last) for cell in self._cells]
        if self.known is not None:
            shares = _capped(shares, self.known[last + 1], self.level)
        return ratio(shares, self.level)

    def recall(self, last: NDArray[np.int64]) -> Estimate:
        """The share of the positives that is among the first last[k] + 1 scores."""
        return ratio([self._found(cell, last) for cell in self._cells if cell.positives], self.level)

    def values(self, last: NDArray[np.int64]) -> tuple[Numbers, Numbers]:
        """Precision and recall alone, without their intervals."""
        true = _running(np.where(self.truth, self.mass, 0.0), last)
        everything = _running(self.mass, last)
        with np.errstate(invalid="ignore"):
            return true / everything, true / self.prevalence

    def _flagged(self, cell: _Cell, last: NDArray[np.int64]) -> Shares:
        true = self._share(cell, cell.rows & self.truth, last) if cell.positives else None
        false = self._share(cell, cell.rows & ~self.truth, last) if cell.negatives else None
        return Shares(cell.mass, cell.size, true, false)

    def _found(self, cell: _Cell, last: NDArray[np.int64]) -> Shares:
        positive = cell.rows & self.truth
        found = self._share(cell, positive, last)
        missed = np.maximum(self.mass[positive].sum() / cell.mass - found, 0.0)
        missed[missed < 1e-12] = 0.0  # what is left of sums taken in another order
        return Shares(cell.mass, cell.size, found, missed)

    def _share(self, cell: _Cell, rows: NDArray[np.bool_], last: NDArray[np.int64]) -> Numbers:
        return np.minimum(_running(np.where(rows, self.mass, 0.0), last) / cell.mass, 1.0)


def _capped(cells: list[Shares], known: Numbers, level: float) -> list[Shares]:
    """With the most that each cell can hold, since all cells together hold exactly what was counted.

    A stratum of low scores has no label above a high threshold. Its labels alone could not tell that it has no image there.
    """
    at_least = []
    for cell in cells:
        flagged = np.minimum((0.0 if cell.x is None else cell.x) + (0.0 if cell.y is None else cell.y), 1.0)
        at_least.append(cell.mass * proportion(np.broadcast_to(flagged, known.shape), cell.size, level)[0])
    total = np.sum(at_least, axis=0)
    return [
        replace(cell, most=np.clip((known - total + own) / cell.mass, 0.0, 1.0))
        for cell, own in zip(cells, at_least, strict=True)
    ]


def as_found(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> Sample:
    """Labels of images that were drawn at random from production."""
    size = len(scores)
    return _sorted(scores, truth, np.full(size, 1 / size), np.zeros(size, np.int64), "labels")


def at_prevalence(scores: NDArray[np.float32], truth: NDArray[np.bool_], prevalence: float) -> Sample:
    """Labels of positives and of negatives that are each like those of production, in whatever numbers."""
    positives = truth.sum()
    mass = np.where(truth, prevalence / positives, (1 - prevalence) / (len(truth) - positives))
    return _sorted(scores, truth, mass, truth.astype(np.int64), "prevalence")


def weighted(
    scores: NDArray[np.float32],
    truth: NDArray[np.bool_],
    weights: Numbers,
    strata: Sequence[str],
    above: Callable[[NDArray[np.float32]], Numbers] | None = None,
) -> Sample:
    """Labels of images drawn with known probabilities, each weighing 1 / its own (Horvitz and Thompson 1952).

    `above` gives the share of all images with a score above each of some scores, where these can be counted.
    """
    sample = _sorted(scores, truth, weights / weights.sum(), strata_of(weights, strata), "weights")
    if above is None:
        return sample
    return replace(sample, known=np.append(above(sample.scores), 1.0))


def strata_of(weights: Numbers, strata: Sequence[str]) -> NDArray[np.int64]:
    """Strata as numbers. Where they are not named, labels of one weight are one; many different weights are put into groups."""
    if any(strata):
        return np.unique(np.array(strata, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
    found, groups = np.unique(weights, return_inverse=True)
    if len(found) <= _MOST_WEIGHTS:
        return groups.astype(np.int64)
    edges = np.quantile(weights, np.linspace(0, 1, _GROUPS + 1)[1:-1])
    return np.searchsorted(edges, weights).astype(np.int64)


def _sorted(
    scores: NDArray[np.float32], truth: NDArray[np.bool_], mass: Numbers, groups: NDArray[np.int64], basis: Basis
) -> Sample:
    order = np.argsort(-scores, kind="stable")
    return Sample(scores[order], truth[order], mass[order], groups[order], basis)


def _running(values: Numbers, last: NDArray[np.int64]) -> Numbers:
    found: Numbers = np.concatenate([[0.0], np.cumsum(values)])[last + 1]
    return found

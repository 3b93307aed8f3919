"""What more labels would bring: how well heads rank that learned from fewer of them. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.studies.learning.comparison import placements
from moderation.studies.learning.cross_fitting import Task

PARTS = (0.25, 0.5, 0.75, 1.0)
MORE = 100
_DRAWS = 3
_SEED = 20261129
_FEWEST = 3
"""Labels of each kind that a fit needs."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What heads from so many labels reach."""

    labels: int
    auc: float
    """on labels that they did not see; the mean of some draws"""


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """How ranking grows with labels."""

    points: tuple[CurvePoint, ...]
    expected: float | None
    """the AUC with `MORE` labels more, by a power law through the points; None where they show no growth"""

    @property
    def gain(self) -> float:
        """What `MORE` labels more would add to the AUC; 0 where the points show no growth."""
        return 0.0 if self.expected is None else self.expected - self.points[-1].auc


def learning_curve(task: Task, strength: float) -> LearningCurve:
    """Cross-validated AUC of heads from a part of the labels, drawn evenly from both kinds."""
    points = []
    for part in PARTS:
        found = [_auc(task, strength, part, draw) for draw in range(_DRAWS if part < 1 else 1)]
        known = [auc for auc in found if auc is not None]
        if known:
            points.append(CurvePoint(round(part * len(task.truth)), float(np.mean(known))))
    return LearningCurve(tuple(points), _expected(points))


def _auc(task: Task, strength: float, part: float, draw: int) -> float | None:
    rng = np.random.default_rng([_SEED, draw])
    logits = np.zeros(len(task.truth))
    for fold in range(task.count):
        tested = task.fold == fold
        rows = _some(rng, task.truth, ~tested, part)
        if min((rows & task.truth).sum(), (rows & ~task.truth).sum()) < _FEWEST:
            return None
        # The penalty stands beside the mean loss: with fewer labels it weighs more.
        line = task.fits(rows, (strength / part,))[0]
        logits[tested] = task.logits(line)[tested]
    return placements(logits, task.truth, task.mass).auc


def _some(rng: np.random.Generator, truth: NDArray[np.bool_], among: NDArray[np.bool_], part: float) -> NDArray[np.bool_]:
    if part >= 1:
        return among
    rows = np.zeros(len(truth), np.bool_)
    for kind in (truth, ~truth):
        members = np.flatnonzero(among & kind)
        rows[rng.permutation(members)[: math.ceil(part * len(members))]] = True
    return rows


def _expected(points: list[CurvePoint]) -> float | None:
    """By a power law of what is missing to 1."""
    missing = np.array([1 - point.auc for point in points])
    if len(points) < 3 or missing.min() <= 0:
        return None
    sizes = np.log([point.labels for point in points])
    power, _ = np.polyfit(sizes, np.log(missing), 1)
    if power >= 0:
        return None
    last = points[-1]
    return 1 - (1 - last.auc) * float(((last.labels + MORE) / last.labels) ** power)

"""From a curve to a threshold: the one that meets a target, its uncertainty, and the effect of more labels. Pure."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moderation.studies.tuning.curves import Curve
from moderation.studies.tuning.samples import Sample

Measure = Literal["precision", "recall"]

NARROW = 0.10
"""The width of an interval that `more_labels` asks for: the value and 5 points to either side."""
_FEW_FLAGGED = 10
_RESOLVED = 5


@dataclass(frozen=True, slots=True)
class Ranged:
    """A number with the 95 % interval that also holds for a threshold chosen from the same labels."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold does, by the labels."""

    threshold: float
    precision: Ranged | None
    """None where no label reaches the threshold"""
    recall: Ranged
    positives: int
    """labels at or above the threshold that are true"""
    negatives: int
    """labels at or above it that are false"""


@dataclass(frozen=True, slots=True)
class Choice:
    """The threshold for a target."""

    measure: Measure
    target: float
    confident: bool
    """whether the lower end of the interval meets the target, and not only the estimate"""
    point: Point
    low: float | None
    """the threshold at which the target is truly met lies from here, 95 times in 100; None: there is no lower end"""
    high: float | None
    more_labels: int | None
    """further labels of the same kind that would make the interval `NARROW`; 0 if it is; None if they would be too many"""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No threshold meets the target; the closest one."""

    measure: Measure | Literal["reviews_per_day"]
    target: float
    confident: bool
    best: Point


def choose(sample: Sample, found: Curve, measure: Measure, target: float, *, confident: bool) -> Choice | Unreachable:
    """The lowest threshold with that precision, or the highest one with that recall.

    It is met by the estimate or, where `confident`, by the lower end of its interval. The interval of the threshold holds
    all those at which the bands allow the target to be met, so that it covers the true one as often as the bands do.
    """
    estimate = found.precision if measure == "precision" else found.recall
    meets = (estimate.low if confident else estimate.value) >= target - 1e-12
    if not meets.any():
        best = int(np.argmax(estimate.low if confident else estimate.value))
        return Unreachable(measure, target, confident, point_at(sample, float(found.thresholds[best])))
    places = np.flatnonzero(meets)
    place = int(places[-1] if measure == "precision" else places[0])
    threshold = readable(found.thresholds, place)
    point = point_at(sample, threshold)
    surely, maybe = np.flatnonzero(estimate.low >= target), np.flatnonzero(estimate.high >= target)
    if measure == "precision":
        low = _below(found.thresholds, int(maybe[-1]))
        high = float(found.thresholds[surely[-1]]) if len(surely) else None
    else:
        low = float(found.thresholds[surely[0]]) if len(surely) else None
        high = float(found.thresholds[maybe[0] - 1]) if maybe[0] > 0 else None
    ranged = point.precision if measure == "precision" else point.recall
    return Choice(measure, target, confident, point, low, high, more_labels(ranged, len(sample.scores)))


def point_at(sample: Sample, threshold: float) -> Point:
    """What a threshold does, compared in float32 as scores are."""
    count = int((sample.scores >= np.float32(threshold)).sum())
    last = np.array([count - 1], np.int64)
    precision, recall = sample.precision(last), sample.recall(last)
    positives = int(sample.truth[:count].sum())
    return Point(
        threshold,
        Ranged(float(precision.value[0]), float(precision.low[0]), float(precision.high[0])) if count else None,
        Ranged(float(recall.value[0]), float(recall.low[0]), float(recall.high[0])),
        positives,
        count - positives,
    )


def more_labels(found: Ranged | None, labels: int) -> int | None:
    """By the binomial approximation: an interval's width falls with the square root of the number of labels."""
    if found is None:
        return None
    if found.width <= NARROW:
        return 0
    more = labels * ((found.width / NARROW) ** 2 - 1)
    digits = 10 ** max(0, math.floor(math.log10(more)) - 1) if more >= 1 else 1
    return math.ceil(more / digits) * digits


def readable(thresholds: NDArray[np.float32], place: int) -> float:
    """The shortest decimal that flags the same labels as the score at `place` does: above the next lower score."""
    score = float(thresholds[place])
    below = _below(thresholds, place)
    for digits in range(2, 11):
        power = float(10**digits)
        rounded: float = math.floor(score * power + 1e-9) / power
        if np.float32(rounded) <= thresholds[place] and (below is None or np.float32(rounded) > np.float32(below)):
            return round(rounded, digits)
    return round(score, 10)


def _below(thresholds: NDArray[np.float32], place: int) -> float | None:
    return float(thresholds[place + 1]) if place + 1 < len(thresholds) else None


def doubts(sample: Sample, choice: Choice) -> list[str]:
    """Why a choice may rest on too few labels, in words; nothing if it does not."""
    point, doubts = choice.point, []
    flagged = point.positives + point.negatives
    if flagged < _FEW_FLAGGED:
        doubts.append(f"only {flagged} labelled image{'s' * (flagged != 1)} reach{'es' * (flagged == 1)} the threshold")
    if choice.measure == "precision" and point.precision is not None:
        doubts += _unresolved(sample, choice)
    ranged = point.precision if choice.measure == "precision" else point.recall
    if ranged is not None and ranged.width > 2 * NARROW:
        doubts.append(f"the interval of the {choice.measure} is {100 * ranged.width:.0f} points wide: there are too few labels")
    return doubts


def _unresolved(sample: Sample, choice: Choice) -> list[str]:
    """Whether the false positives that the target allows are too rare for the negatives that are labelled."""
    point = choice.point
    if sample.basis == "weights":  # the interval says it, since strata of high scores have many labels for few images
        return []
    prior = sample.prevalence
    allowed = prior * point.recall.value * (1 - choice.target) / (choice.target * (1 - prior))
    if allowed * sample.negatives >= _RESOLVED:
        return []
    return [
        f"a precision of {choice.target:g} at a prevalence of {share(prior)} allows {_rate(allowed)} to be flagged by mistake; "
        f"{sample.negatives:,} labelled negatives cannot show that: label images with high scores "
        "(`moderate policy sample` draws them, with weights)"
    ]


def share(value: float) -> str:
    """0.1 %, 12 %, 0.0031 %."""
    return f"{100 * value:.3g} %"


def _rate(value: float) -> str:
    if value <= 0:
        return "no negative"
    return f"1 negative in {1 / value:,.0f}"

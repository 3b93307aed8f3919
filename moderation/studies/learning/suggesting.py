"""Thresholds for a head: those that keep what the rule's thresholds do now. Pure."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from moderation.policy.schema import Rule
from moderation.studies.tuning.curves import curve
from moderation.studies.tuning.samples import Sample
from moderation.studies.tuning.thresholds import Choice, Measure, Point, choose, point_at

_LOWEST, _HIGHEST = 0.5, 0.99


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A threshold for a head."""

    key: Literal["review", "block"]
    measure: Measure
    """what was to be kept"""
    target: float
    point: Point
    reached: bool
    """False: no threshold does, and this comes closest"""
    now: Point
    """what the rule's own threshold does now"""


def suggestions(rule: Rule, head: Sample, now: Sample) -> tuple[Suggestion, ...]:
    """`review` finds as many positives as it does now, `block` is right as often: the rest is what the head gains.

    Args:
        rule: with its thresholds as they are.
        head: the labels under the head's probabilities.
        now: the labels under the rule's scores.
    """
    found = []
    keys: tuple[tuple[Literal["review", "block"], float | None, Measure], ...] = (
        ("review", rule.review, "recall"),
        ("block", rule.block, "precision"),
    )
    line = curve(head)
    for key, threshold, measure in keys:
        if threshold is None:
            continue
        does = point_at(now, threshold)
        ranged = does.recall if measure == "recall" else does.precision
        target = float(np.clip(ranged.value if ranged is not None else _HIGHEST, _LOWEST, _HIGHEST))
        chosen = choose(head, line, measure, target, confident=False)
        point = chosen.point if isinstance(chosen, Choice) else chosen.best
        found.append(Suggestion(key, measure, target, point, isinstance(chosen, Choice), does))
    if len(found) == 2 and found[0].point.threshold > found[1].point.threshold:  # review never lies above block
        review, block = found
        found[0] = Suggestion("review", review.measure, review.target, block.point, review.reached, review.now)
    return tuple(found)

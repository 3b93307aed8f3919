"""Thresholds for another model that flag as many images as before, or flag them as rightly. Pure."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moderation.policy.schema import Rule
from moderation.studies.model_comparison.comparison_result import FEW, Threshold

Floats = NDArray[np.float32]


class Labels(NamedTuple):
    """What people said about n images under one rule."""

    rows: NDArray[np.int64]
    """[n] which images"""
    truth: NDArray[np.bool_]
    """[n] whether the rule applies"""
    weight: NDArray[np.float64]
    """[n] how many images each stands for"""


class _Cut(NamedTuple):
    """A place between two neighbouring scores: a threshold above `low`, and at or below `high`, is reached by `reached`."""

    low: float
    high: float
    reached: int


Find = Callable[[float], "_Cut | str"]
"""From a threshold for A to the cut for B, or to why there is none"""


def fit_flag_rate(rule: Rule, a: Floats, b: Floats) -> tuple[Threshold, ...]:
    """Thresholds for scores `b` [N] that as many images reach as reach the rule's for `a` [N]."""

    def find(now: float) -> _Cut | str:
        count = _reached(a, now)
        if count == 0:
            return "no image reaches it under A, so these images do not show where it is for B"
        if count == len(a):
            return "every image reaches it under A, so these images do not show where it is for B"
        cuts = _cuts(b)
        best = min(cuts, key=lambda cut: (abs(cut.reached - count), cut.reached))
        if abs(best.reached - count) > count / 2:
            return "too many scores under B are equal for a threshold to split them as A's does"
        return best

    return _fitted(rule, a, b, find)


def fit_precision(rule: Rule, a: Floats, b: Floats, labels: Labels) -> tuple[Threshold, ...]:
    """The lowest thresholds for scores `b` [N] at which labelled images are flagged as rightly as by the rule's for `a` [N]."""
    score_a, score_b = a[labels.rows], b[labels.rows]

    def find(now: float) -> _Cut | str:
        held = _precision(score_a >= np.float32(now), labels)
        if held is None:
            return "no labelled image reaches it under A, so there is no precision to keep"
        for cut in reversed(_cuts(score_b)):  # the lowest first
            precision = _precision(score_b >= np.float32(cut.high), labels)
            if precision is not None and precision >= held - 1e-12:
                return cut
        return f"no threshold for B reaches the precision of A's, {held:.0%}"

    found = _fitted(rule, a, b, find)
    return found if len(labels.rows) >= FEW else tuple(_with_note(one, f"based on {len(labels.rows)} labels") for one in found)


def fitted_rule(rule: Rule, thresholds: tuple[Threshold, ...]) -> Rule:
    """The rule with the thresholds for B. One that no image reaches under A is reached by none; one without an answer stays."""
    values: dict[str, float | None] = {one.kind: None if one.reached_a == 0 else one.now for one in thresholds}
    values |= {one.kind: one.fitted for one in thresholds if one.fitted is not None}
    return rule.model_copy(update=values)


def _fitted(rule: Rule, a: Floats, b: Floats, find: Find) -> tuple[Threshold, ...]:
    thresholds = [(kind, now) for kind, now in (("review", rule.review), ("block", rule.block)) if now is not None]
    cuts = [find(now) for _, now in thresholds]
    if len(cuts) == 2 and isinstance(cuts[0], _Cut) and isinstance(cuts[1], _Cut) and cuts[1].high < cuts[0].high:
        cuts[1] = cuts[0]  # block never lies below review
    same = len(cuts) == 2 and cuts[0] == cuts[1] and thresholds[0][1] != thresholds[1][1]
    floor = rule.score.facts.low
    found: list[Threshold] = []
    for number, ((kind, now), cut) in enumerate(zip(thresholds, cuts, strict=True)):
        part = (number + 1) / 3 if same else 0.5  # two thresholds between the same two scores keep their order
        value = None if isinstance(cut, str) else _within(cut, now, floor, part)
        if value is not None and found and found[0].fitted is not None:
            value = max(value, found[0].fitted)
        reached = 0 if value is None else _reached(b, value)
        reached_a = _reached(a, now)
        note = cut if isinstance(cut, str) else f"based on {reached_a} images" if reached_a < FEW else ""
        found.append(
            Threshold(
                kind="review" if kind == "review" else "block",
                now=now,
                reached_a=reached_a,
                reached_b=_reached(b, now),
                fitted=value,
                reached_fitted=reached,
                note=note.replace("1 images", "1 image") if reached_a == 1 else note,
            )
        )
    return tuple(found)


def _cuts(scores: Floats) -> list[_Cut]:
    """Every way to part scores into high and low ones, the fewest high ones first."""
    values, counts = np.unique(scores, return_counts=True)
    values, reached = values[::-1].astype(np.float64), np.cumsum(counts[::-1])
    lows = [*values[1:], values[-1] - 0.1]
    return [_Cut(float(low), float(high), int(n)) for low, high, n in zip(lows, values, reached, strict=True)]


def _within(cut: _Cut, now: float, floor: float, part: float) -> float:
    """A threshold in a cut, as float32 compares them: today's if it lies there, else one with as few digits as that takes."""
    low, high = max(cut.low, floor), cut.high
    target = low + part * (high - low)
    for value in (now, *(round(target, digits) for digits in range(2, 10))):
        if np.float32(low) < np.float32(value) <= np.float32(high):
            return value
    return high


def _reached(scores: Floats, threshold: float) -> int:
    return int((scores >= np.float32(threshold)).sum())


def _precision(flagged: NDArray[np.bool_], labels: Labels) -> float | None:
    total = float(labels.weight[flagged].sum())
    return float(labels.weight[flagged & labels.truth].sum()) / total if total else None


def _with_note(threshold: Threshold, note: str) -> Threshold:
    if threshold.fitted is None:
        return threshold
    return replace(threshold, note=note)

"""What thresholds do to stored images: arithmetic on scores in memory, fast enough to follow a slider. Pure.

Actions are numbers: 0 allow, 1 review, 2 block, as indexes into `moderation.policy.decision.ACTIONS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.policy.schema import Mode, Rule
from moderation.studio.population import Scores

Actions = NDArray[np.int8]
"""[N]"""


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of one rule; None: it has none."""

    review: float | None
    block: float | None

    def actions(self, scores: Scores) -> Actions:
        """What scores [N] ask for, compared in float32 as they are stored."""
        found = np.zeros(len(scores), np.int8)
        if self.review is not None:
            np.greater_equal(scores, np.float32(self.review), out=found.view(np.bool_))
        if self.block is not None:
            blocks = scores >= np.float32(self.block)
            np.maximum(found, blocks.view(np.int8) << 1, out=found)
        return found


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """What one rule asks for, beside what it asked for before."""

    review: int
    block: int
    enters: int
    """images that it flags and did not"""
    leaves: int
    """images that it flagged and does not"""


@dataclass(frozen=True, slots=True)
class TotalEffect:
    """What becomes of all images, by the strongest of the live rules."""

    review: int
    block: int
    was_review: int
    was_block: int
    changed: int
    """images with another action than before"""


class Side:
    """The rules of a policy with their scores: what the published policy, or a draft, makes of N images."""

    def __init__(self, rules: Sequence[Rule], scores: Sequence[Scores]) -> None:
        """`scores` [N] of each rule, in the same order."""
        self.rules = tuple(rules)
        self.scores = dict(zip((rule.id for rule in rules), scores, strict=True))
        self.live = frozenset(rule.id for rule in rules if rule.mode is Mode.LIVE)
        self.images = len(scores[0]) if scores else 0
        self._own = {rule.id: Limits(rule.review, rule.block).actions(self.scores[rule.id]) for rule in rules}
        self._others: tuple[str, Actions] | None = None
        self.action = self._strongest(None)

    def of(self, rule: str) -> Actions | None:
        """What a rule asks for by itself; None if there is no such rule."""
        return self._own.get(rule)

    def with_limits(self, rule: str, limits: Limits) -> tuple[Actions, Actions]:
        """What a rule would ask for with other thresholds, and what would become of the images: [N] and [N]."""
        own = limits.actions(self.scores[rule])
        if rule not in self.live:
            return own, self.action
        if self._others is None or self._others[0] != rule:
            self._others = rule, self._strongest(rule)
        return own, np.maximum(own, self._others[1])

    def _strongest(self, without: str | None) -> Actions:
        found = np.zeros(self.images, np.int8)
        for rule, own in self._own.items():
            if rule in self.live and rule != without:
                np.maximum(found, own, out=found)
        return found


def rule_effect(own: Actions, before: Actions | None) -> RuleEffect:
    """A rule's actions [N] beside those before, None where there was no such rule."""
    flags = own > 0
    block = int(np.count_nonzero(own == 2))
    review = int(np.count_nonzero(flags)) - block
    if before is None:
        return RuleEffect(review, block, review + block, 0)
    was = before > 0
    both = int(np.count_nonzero(flags & was))
    return RuleEffect(review, block, review + block - both, int(np.count_nonzero(was)) - both)


def total_effect(now: Actions, before: Actions) -> TotalEffect:
    """Actions [N] of a draft beside those [N] of the published policy."""
    return TotalEffect(*_counts(now), *_counts(before), int(np.count_nonzero(now != before)))


def _counts(actions: Actions) -> tuple[int, int]:
    return int(np.count_nonzero(actions == 1)), int(np.count_nonzero(actions == 2))


def changed_images(
    scores: Scores, own: Actions, before: Actions | None, limits: Limits, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Images [..] that enter and that leave, those nearest to a threshold first, up to `most` of each."""
    flags = own > 0
    was = np.zeros_like(flags) if before is None else before > 0
    return nearest(scores, flags & ~was, limits, most), nearest(scores, was & ~flags, limits, most)


def nearest(scores: Scores, among: NDArray[np.bool_] | None, limits: Limits, most: int) -> NDArray[np.int64]:
    """The images [..] whose scores lie nearest to a threshold, nearest first, up to `most`; `among`: only of these [N]."""
    places = np.arange(len(scores)) if among is None else np.flatnonzero(among)
    own = scores[places]
    marks = [np.float32(mark) for mark in (limits.review, limits.block) if mark is not None]
    if not marks or not len(own):
        return places[:0]
    away = np.abs(own - marks[0])
    for mark in marks[1:]:
        away = np.minimum(away, np.abs(own - mark))
    if len(away) > most:
        chosen = np.argpartition(away, most)[:most]
        places, away = places[chosen], away[chosen]
    return places[np.argsort(away, kind="stable")]


def histogram(scores: Scores, low: float, high: float, bins: int) -> tuple[int, ...]:
    """Counts in equal bins from `low` to `high`; scores beyond count in the outermost."""
    at = ((scores - np.float32(low)) * np.float32(bins / (high - low))).astype(np.int32)
    return tuple(np.bincount(np.clip(at, 0, bins - 1), minlength=bins).tolist())

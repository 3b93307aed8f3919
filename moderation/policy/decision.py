"""From rule scores to actions. Everything is compared in float32, as it is stored."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.policy.schema import Action, Mode, Rule, Severity

ACTIONS = tuple(Action)
"""Actions by strength; arrays of actions hold indexes into this."""
_SEVERITIES = tuple(Severity)


@dataclass(frozen=True, eq=False)
class Thresholds:
    """What R rules compare scores with, in float32 as scores are stored. This is the only place where they become float32."""

    review: NDArray[np.float32]
    """[R] infinite where a rule has none"""
    block: NDArray[np.float32]
    """[R] infinite where a rule has none"""
    near: np.float32
    """how far from a threshold a score is near it"""
    live: NDArray[np.bool_]
    """[R] whether the rule acts"""
    severity: NDArray[np.float64]
    """[R] 0 for the mildest"""

    @classmethod
    def of(cls, rules: tuple[Rule, ...], near: float) -> "Thresholds":
        """Those of some rules, under a policy's `near`."""
        return cls(
            review=_stored(rule.review for rule in rules),
            block=_stored(rule.block for rule in rules),
            near=np.float32(near),
            live=np.array([rule.mode is Mode.LIVE for rule in rules], np.bool_),
            severity=np.array([_SEVERITIES.index(rule.severity) for rule in rules], np.float64),
        )

    @property
    def lowest(self) -> NDArray[np.float32]:
        """[R] from where on a rule flags."""
        found: NDArray[np.float32] = np.minimum(self.review, self.block)
        return found

    def actions(self, scores: NDArray[np.float32]) -> NDArray[np.int8]:
        """[N, R] what scores [N, R] ask for; indexes into `ACTIONS`. NaN asks for nothing."""
        found: NDArray[np.int8] = np.where(scores >= self.block, 2, np.where(scores >= self.review, 1, 0)).astype(np.int8)
        return found

    def distance(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, R] how far scores [N, R] are from the nearer threshold of their rule."""
        found: NDArray[np.float32] = np.minimum(np.abs(scores - self.review), np.abs(scores - self.block))
        return found

    def nearer(self, score: NDArray[np.float32], rule: NDArray[np.int64]) -> NDArray[np.float32]:
        """The threshold [N] of rules [N] that is nearer to scores [N]; of equally near ones `review`."""
        review, block = self.review[rule], self.block[rule]
        found: NDArray[np.float32] = np.where(
            np.isinf(review) | (np.abs(score - block) < np.abs(score - review)), block, review
        )
        return found

    def deciding(self, action: NDArray[np.int8]) -> NDArray[np.float32]:
        """[N, R] the thresholds that rules with these actions [N, R] reached; where one allows, its lowest."""
        found: NDArray[np.float32] = np.where(action == 2, self.block, np.where(action == 1, self.review, self.lowest))
        return found

    def close(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[N] whether the score of a live rule, of scores [N, R], lies within `near` of one of its thresholds."""
        found: NDArray[np.bool_] = np.logical_or.reduce((self.distance(scores) <= self.near) & self.live, axis=1)
        return found


@dataclass(frozen=True)
class Decisions:
    """What follows from scores [N, R] of N images under R rules."""

    rule_action: NDArray[np.int8]
    """[N, R] each rule's own action, shadow rules too; index into `ACTIONS`"""
    action: NDArray[np.int8]
    """[N] the strongest action among live rules"""
    flagged: NDArray[np.bool_]
    """[N, R] live rules that act"""
    shadow: NDArray[np.bool_]
    """[N, R] shadow rules that would act"""
    top_rule: NDArray[np.int64]
    """[N] index of the rule that decided, -1 where no rule is live"""
    top_threshold: NDArray[np.float32]
    """[N] the threshold the top rule reached; where it allows, the one it is closest to. NaN without a top rule"""
    near: NDArray[np.bool_]
    """[N] whether a live rule's score lies within `near` of one of its thresholds"""


def decide(scores: NDArray[np.float32], thresholds: Thresholds, without: NDArray[np.bool_] | None = None) -> Decisions:
    """Compare float32 scores [N, R] with the thresholds of R rules. Rules `without` [N, R] do not act on an image.

    The top rule of a flagged image is the live rule with the strongest action, then the highest severity, then the
    largest margin over the threshold it reached. Of an allowed image it is the live rule that came closest to acting.
    """
    live = thresholds.live if without is None else thresholds.live & ~without
    rule_action = thresholds.actions(scores)
    acts = rule_action > 0
    action = np.where(live, rule_action, 0).max(axis=1, initial=0).astype(np.int8)

    threshold = thresholds.deciding(rule_action)
    margin = scores.astype(np.float64) - threshold
    # Margins lie in [-2, 2], so that one number orders by action, severity (of rules that act) and margin.
    rank = rule_action * 100.0 + np.where(acts, thresholds.severity * 10.0, 0.0) + margin
    if without is None:
        rank[:, ~live] = -np.inf
    else:
        rank[~live] = -np.inf
    some_live = bool(thresholds.live.any())
    top = rank.argmax(axis=1) if some_live else np.full(len(scores), -1)
    rows = np.arange(len(scores))
    top_threshold = threshold[rows, top] if some_live else np.full(len(scores), np.nan, np.float32)
    return Decisions(
        rule_action=rule_action,
        action=action,
        flagged=acts & live,
        shadow=acts & ~thresholds.live,
        top_rule=top.astype(np.int64),
        top_threshold=top_threshold.astype(np.float32),
        near=thresholds.close(scores),
    )


def _stored(thresholds: Iterable[float | None]) -> NDArray[np.float32]:
    return np.array([np.inf if threshold is None else threshold for threshold in thresholds], np.float32)

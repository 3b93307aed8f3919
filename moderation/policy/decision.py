"""From rule scores to actions. Everything is compared in float32, as it is stored."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.policy.schema import Action, Mode, Rule, Severity

ACTIONS = tuple(Action)
"""Actions by strength; arrays of actions hold indexes into this."""
_SEVERITIES = tuple(Severity)


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


def decide(scores: NDArray[np.float32], rules: tuple[Rule, ...], near: float) -> Decisions:
    """Compare float32 scores [N, R] with the thresholds of R rules.

    The top rule of a flagged image is the live rule with the strongest action, then the highest severity, then the
    largest margin over the threshold it reached. Of an allowed image it is the live rule that came closest to acting.
    """
    review = np.array([_threshold(rule.review) for rule in rules], np.float32)
    block = np.array([_threshold(rule.block) for rule in rules], np.float32)
    live = np.array([rule.mode is Mode.LIVE for rule in rules], np.bool_)
    severity = np.array([_SEVERITIES.index(rule.severity) for rule in rules], np.float64)

    rule_action = np.where(scores >= block, 2, np.where(scores >= review, 1, 0)).astype(np.int8)
    acts = rule_action > 0
    action = np.where(live, rule_action, 0).max(axis=1, initial=0).astype(np.int8)

    threshold = np.where(rule_action == 2, block, np.where(rule_action == 1, review, np.minimum(review, block)))
    margin = scores.astype(np.float64) - threshold
    # Margins lie in [-2, 2], so that one number orders by action, severity (of rules that act) and margin.
    rank = rule_action * 100.0 + np.where(acts, severity * 10.0, 0.0) + margin
    rank[:, ~live] = -np.inf
    some_live = bool(live.any())
    top = rank.argmax(axis=1) if some_live else np.full(len(scores), -1)
    rows = np.arange(len(scores))
    top_threshold = threshold[rows, top] if some_live else np.full(len(scores), np.nan, np.float32)

    distance = np.minimum(np.abs(scores - review), np.abs(scores - block))
    close = (distance <= np.float32(near)) & live
    return Decisions(
        rule_action=rule_action,
        action=action,
        flagged=acts & live,
        shadow=acts & ~live,
        top_rule=top.astype(np.int64),
        top_threshold=top_threshold.astype(np.float32),
        near=close.any(axis=1),
    )


def _threshold(value: float | None) -> float:
    return np.inf if value is None else value

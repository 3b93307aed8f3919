"""The rules of a policy under two models, and the decisions on whole images. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.policy.decision import ACTIONS, Decisions, Thresholds, decide
from moderation.policy.schema import Policy, Rule
from moderation.records import ObjectRef
from moderation.studies.model_comparison.agreement import agreement, rank_correlation
from moderation.studies.model_comparison.comparison_result import Disagreement, RuleComparison, Threshold, Transitions
from moderation.studies.model_comparison.comparison_text import about_rule
from moderation.studies.model_comparison.refitting import Labels, fit_flag_rate, fit_precision, fitted_rule

SHOWN = 12
"""Images shown of a rule."""


@dataclass(frozen=True)
class Scored:
    """N images that both models scored under R rules."""

    objects: Sequence[ObjectRef]
    a: NDArray[np.float32]
    """[N, R]"""
    b: NDArray[np.float32]
    """[N, R]"""
    frame: NDArray[np.int32]
    """[N, R] under A"""
    in_sample: NDArray[np.bool_]
    """[N] images that are counted; the others are there for their labels only"""
    shown: NDArray[np.bool_]
    """[N] images that may be shown: on no restricted hash list"""


@dataclass(frozen=True)
class Compared:
    """The rules, and the images by what is decided about them."""

    rules: tuple[RuleComparison, ...]
    actions: Transitions
    actions_fitted: Transitions


def compare_rules(policy: Policy, scored: Scored, labels: Mapping[str, Labels] | None = None) -> Compared:
    """Compare both models rule by rule. With `labels` by rule id, thresholds for B hold the precision, else the flag rate.

    At least one image must be in the sample.
    """
    rules, sample = policy.active_rules, scored.in_sample
    thresholds = [
        fit_flag_rate(rule, scored.a[sample, r], scored.b[sample, r])
        if labels is None
        else _counted(fit_precision(rule, scored.a[:, r], scored.b[:, r], labels[rule.id]), scored, r)
        for r, rule in enumerate(rules)
    ]
    fitted = tuple(fitted_rule(rule, found) for rule, found in zip(rules, thresholds, strict=True))
    chosen = Scored(
        objects=[item for item, taken in zip(scored.objects, sample, strict=True) if taken],
        a=scored.a[sample],
        b=scored.b[sample],
        frame=scored.frame[sample],
        in_sample=sample[sample],
        shown=scored.shown[sample],
    )
    now = Thresholds.of(rules, policy.near)
    by_a, by_b = decide(chosen.a, now), decide(chosen.b, now)
    by_fitted = decide(chosen.b, Thresholds.of(fitted, policy.near))
    return Compared(
        rules=tuple(
            _rule(rule, found, chosen, r, (by_a, by_b, by_fitted))
            for r, (rule, found) in enumerate(zip(rules, thresholds, strict=True))
        ),
        actions=_transitions(by_a.action, by_b.action),
        actions_fitted=_transitions(by_a.action, by_fitted.action),
    )


def _counted(found: tuple[Threshold, ...], scored: Scored, r: int) -> tuple[Threshold, ...]:
    """Thresholds that hold precision, with the images of the sample that reach them."""

    def reached(scores: NDArray[np.float32], threshold: float) -> int:
        return int((scores[scored.in_sample, r] >= np.float32(threshold)).sum())

    return tuple(
        Threshold(
            kind=one.kind,
            now=one.now,
            reached_a=reached(scored.a, one.now),
            reached_b=reached(scored.b, one.now),
            fitted=one.fitted,
            reached_fitted=0 if one.fitted is None else reached(scored.b, one.fitted),
            note=one.note,
        )
        for one in found
    )


def _rule(
    rule: Rule, thresholds: tuple[Threshold, ...], scored: Scored, r: int, by: tuple[Decisions, Decisions, Decisions]
) -> RuleComparison:
    a, b, fitted = (decisions.rule_action[:, r] for decisions in by)
    found = RuleComparison(
        rule=rule.id,
        category=rule.category,
        severity=rule.severity,
        mode=rule.mode,
        kind=rule.score,
        agreement=agreement(a, b),
        agreement_fitted=agreement(a, fitted),
        spearman=rank_correlation(scored.a[:, r], scored.b[:, r]),
        flagged_a=int((a > 0).sum()),
        flagged_b=int((b > 0).sum()),
        flagged_fitted=int((fitted > 0).sum()),
        blocked_a=int((a == 2).sum()),
        blocked_b=int((b == 2).sum()),
        blocked_fitted=int((fitted == 2).sum()),
        both=int(((a > 0) & (fitted > 0)).sum()),
        thresholds=thresholds,
        disagreements=_disagreements(scored, r, (a, b, fitted)),
        summary="",
    )
    return about_rule(found, len(scored.objects))


def _disagreements(
    scored: Scored, r: int, by: tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]
) -> tuple[Disagreement, ...]:
    """Images whose action differs: first those that thresholds for B leave furthest apart, then by their scores."""
    a, b, fitted = (actions.astype(np.int64) for actions in by)
    left, now = np.abs(a - fitted), np.abs(a - b)
    distance = np.abs(scored.a[:, r].astype(np.float64) - scored.b[:, r])
    order = np.lexsort((np.arange(len(a)), -distance, -now, -left))
    order = order[((left + now)[order] > 0) & scored.shown[order]][:SHOWN]
    return tuple(
        Disagreement(
            uri=scored.objects[i].uri,
            etag=scored.objects[i].etag,
            frame=int(scored.frame[i, r]),
            score_a=float(scored.a[i, r]),
            score_b=float(scored.b[i, r]),
            action_a=ACTIONS[a[i]].value,
            action_b=ACTIONS[b[i]].value,
            action_fitted=ACTIONS[fitted[i]].value,
        )
        for i in order
    )


def _transitions(before: NDArray[np.int8], after: NDArray[np.int8]) -> Transitions:
    return {
        (old.value, new.value): int(((before == i) & (after == j)).sum())
        for i, old in enumerate(ACTIONS)
        for j, new in enumerate(ACTIONS)
    }

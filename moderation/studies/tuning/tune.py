"""Tuning a policy: for each labelled rule its curve, and the threshold that meets a target."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moderation.errors import SettingsError
from moderation.labels.labels import ANY, LabelFile
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.decision import Thresholds, decide
from moderation.policy.schema import Mode, Policy, Rule
from moderation.results.archive import Archive
from moderation.studies.tuning.curves import Area, Curve, average_precision, curve
from moderation.studies.tuning.evidence import Judged, Unusable, checked, judged
from moderation.studies.tuning.intervals import Numbers
from moderation.studies.tuning.samples import Sample
from moderation.studies.tuning.scores import Counted, Scores, collect_scores
from moderation.studies.tuning.thresholds import Choice, Measure, Point, Unreachable, choose, doubts, point_at

Key = Literal["review", "block"]
"""The threshold that is tuned."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a threshold should achieve."""

    measure: Literal["precision", "recall", "reviews_per_day"]
    value: float
    confident: bool = False
    """whether the lower end of the interval must meet it"""

    def __str__(self) -> str:
        if self.measure == "reviews_per_day":
            return f"{self.value:g} reviews per day"
        return f"{self.measure} {self.value:g}{' at the lower end of its interval' if self.confident else ''}"


@dataclass(frozen=True, slots=True)
class Budgeted:
    """The lowest threshold that sends at most so many images a day to people."""

    target: float
    point: Point


Found = Choice | Unreachable | Budgeted


@dataclass(frozen=True)
class RuleTuning:
    """What labels say about one rule."""

    rule: Rule
    key: Key
    sample: Sample
    curve: Curve
    area: Area
    now: tuple[tuple[Key, Point], ...]
    """what the policy's thresholds do"""
    found: Found | None
    """None where no target was given"""
    remarks: tuple[str, ...]
    doubts: tuple[str, ...]
    counted: Counted
    days: int

    @property
    def chosen(self) -> Point | None:
        """What the threshold for the target does; None if there is none."""
        return self.found.point if isinstance(self.found, Choice | Budgeted) else None

    def flagged_per_day(self, threshold: float) -> float:
        """Images at or above a threshold, a day."""
        return self.counted.above(threshold) / self.days

    def reviews_per_day(self, threshold: float) -> float:
        """Images that a review threshold sends to people: those at or above it that are not blocked."""
        blocked = self.counted.above(self.rule.block) if self.rule.block is not None else 0
        return max(0, self.counted.above(threshold) - blocked) / self.days


@dataclass(frozen=True, slots=True)
class WholePolicy:
    """What labels for `any` say about all live rules together."""

    positives: int
    negatives: int
    now: Point
    """its threshold means nothing"""
    tuned: Point | None
    """with the thresholds that were chosen"""
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """All that tuning found."""

    policy: Policy
    model: str
    fingerprint: str
    labels: LabelFile
    target: Target | None
    prevalence: float | None
    rules: tuple[RuleTuning, ...]
    unusable: Mapping[str, str]
    """rules whose labels cannot be used, and why; `ANY` for the policy"""
    unlabelled: tuple[str, ...]
    """rules that nobody labelled"""
    whole: WholePolicy | None
    images: int
    days: int
    first_day: str | None
    last_day: str | None

    @property
    def missed(self) -> tuple[str, ...]:
        """Rules whose target cannot be reached."""
        return tuple(one.rule.id for one in self.rules if isinstance(one.found, Unreachable))

    @property
    def ok(self) -> bool:
        """Whether every labelled rule could be tuned."""
        return bool(self.rules or self.whole) and not self.missed and not self.unusable


def tune(
    archive: Archive,
    compiled: CompiledPolicy,
    labels: LabelFile,
    *,
    only: str | None,
    key: Key,
    target: Target | None,
    prevalence: float | None,
) -> Tuning:
    """Tune one rule, or all that have labels.

    Raises:
        SettingsError: a prevalence was given together with weights, or a budget for several rules.
        OutputError: a stored file cannot be read.
    """
    policy = compiled.policy
    scores = collect_scores(archive, compiled, (label.uri for label in labels.labels))
    labels = checked(labels, policy, scores.uris, scores.unreadable)
    wanted = [rule for rule in policy.active_rules if only in (None, rule.id)]
    with_labels = {label.rule for label in labels.labels}
    named = [rule for rule in wanted if rule.id in with_labels or only is not None]
    if prevalence is not None:
        _refuse_both(labels, {rule.id for rule in named})
    if target is not None and target.measure == "reviews_per_day" and len(named) > 1:
        raise SettingsError("--reviews-per-day applies to one rule: give --rule")
    tuned: list[RuleTuning] = []
    unusable: dict[str, str] = {}
    for rule in named:
        column = [one.id for one in scores.rules].index(rule.id)
        counted = scores.counted[column]
        by_uri = dict(zip(scores.uris, scores.scores[:, column].tolist(), strict=True))
        found = judged(labels.labels, rule.id, by_uri, prevalence, _above(counted, scores.images), scores.images)
        if isinstance(found, Unusable):
            unusable[rule.id] = found.why
        else:
            tuned.append(_rule(rule, key, found, target, counted, scores.days))
    whole = _whole(policy, labels, scores, tuned) if only is None and ANY in with_labels else None
    if isinstance(whole, Unusable):
        unusable[ANY] = whole.why
    return Tuning(
        policy=policy,
        model=archive.used.model,
        fingerprint=archive.fingerprint,
        labels=labels,
        target=target,
        prevalence=prevalence,
        rules=tuple(tuned),
        unusable=unusable,
        unlabelled=tuple(rule.id for rule in wanted if rule not in named),
        whole=None if isinstance(whole, Unusable) else whole,
        images=scores.images,
        days=scores.days,
        first_day=f"{scores.first_day:%Y-%m-%d}" if scores.first_day else None,
        last_day=f"{scores.last_day:%Y-%m-%d}" if scores.last_day else None,
    )


def _rule(rule: Rule, key: Key, found: Judged, target: Target | None, counted: Counted, days: int) -> RuleTuning:
    sample = found.sample
    line = curve(sample)
    now: tuple[tuple[Key, float | None], ...] = (("review", rule.review), ("block", rule.block))
    result = RuleTuning(
        rule=rule,
        key=key,
        sample=sample,
        curve=line,
        area=average_precision(sample, line),
        now=tuple((name, point_at(sample, value)) for name, value in now if value is not None),
        found=None,
        remarks=found.remarks,
        doubts=(),
        counted=counted,
        days=days,
    )
    if target is None:
        return result
    if target.measure == "reviews_per_day":
        blocked = counted.above(rule.block) if rule.block is not None else 0
        threshold = max(counted.lowest_with(blocked + target.value * days), rule.score.facts.low)
        highest = rule.score.facts.high if rule.block is None else rule.block
        point = point_at(sample, min(threshold, highest))
        if rule.block is None and threshold > highest:
            return replace(result, found=Unreachable("reviews_per_day", target.value, confident=False, best=point))
        return replace(result, found=Budgeted(target.value, point))
    measure: Measure = target.measure
    chosen = choose(sample, line, measure, target.value, confident=target.confident)
    return replace(result, found=chosen, doubts=tuple(doubts(sample, chosen)) if isinstance(chosen, Choice) else ())


def _whole(policy: Policy, labels: LabelFile, scores: Scores, tuned: list[RuleTuning]) -> WholePolicy | Unusable | None:
    if not any(rule.mode is Mode.LIVE for rule in scores.rules):
        return Unusable("no rule is live, so the policy flags nothing")
    chosen = {one.rule.id: (one.key, one.chosen.threshold) for one in tuned if one.chosen is not None}
    after = tuple(
        rule.model_copy(update={chosen[rule.id][0]: chosen[rule.id][1]}) if rule.id in chosen else rule for rule in scores.rules
    )
    found = judged(labels.labels, ANY, _flags(scores, scores.rules, policy), None)
    if isinstance(found, Unusable):
        return found
    point = None
    if chosen:
        again = judged(labels.labels, ANY, _flags(scores, after, policy), None)
        point = point_at(again.sample, 0.5) if isinstance(again, Judged) else None
    sample = found.sample
    return WholePolicy(sample.positives, sample.negatives, point_at(sample, 0.5), point, found.remarks)


def _flags(scores: Scores, rules: tuple[Rule, ...], policy: Policy) -> dict[str, float]:
    flagged = decide(scores.scores, Thresholds.of(rules, policy.near)).flagged.any(axis=1)
    return dict(zip(scores.uris, flagged.astype(float).tolist(), strict=True))


class _above:  # noqa: N801 - used as a function
    def __init__(self, counted: Counted, images: int) -> None:
        self._counted, self._images = counted, images

    def __call__(self, scores: NDArray[np.float32]) -> Numbers:
        places = np.searchsorted(self._counted.edges, scores, side="right")
        return np.append(self._counted.at_least, 0)[places] / max(self._images, 1)


def _refuse_both(labels: LabelFile, rules: set[str]) -> None:
    line = next((label.line for label in labels.labels if label.rule in rules and label.weight is not None), None)
    if line is not None:
        raise SettingsError(
            f"--prevalence is given, and {labels.place([line])} has a weight, which also says how common positives are: "
            "leave out --prevalence or the column `weight`"
        )

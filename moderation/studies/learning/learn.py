"""Learning a head: labels, folds, fits, calibration, and how good it is. No clock, fixed seeds: all follows from the input."""

import hashlib
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from moderation.errors import SettingsError
from moderation.labels.label_file import LabelFile
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.schema import Rule
from moderation.policy.score_kind import ScoreKind
from moderation.results.archive import Archive
from moderation.studies.learning.calibration import Calibration, calibrated, calibration_error
from moderation.studies.learning.comparison import Comparison, compare
from moderation.studies.learning.cross_fitting import Task, cross_fit
from moderation.studies.learning.folds import folds, groups
from moderation.studies.learning.labelled_images import LabelledImages, labelled_images
from moderation.studies.learning.learning_curve import LearningCurve, learning_curve
from moderation.studies.learning.regression import Line, Numbers
from moderation.studies.learning.suggesting import Suggestion, suggestions
from moderation.studies.tuning.curves import Curve, curve
from moderation.studies.tuning.evidence import Unusable, checked, judged
from moderation.studies.tuning.samples import Sample

FEWEST = 10
"""Labels of each kind without which nothing is learned."""


@dataclass(frozen=True)
class Fitted:
    """What follows from the labels and the rule's texts alone."""

    task: Task
    strength: float
    """of the penalty"""
    logits: Numbers
    """[N] of the labels, by fits that did not see them"""
    line: Line
    """the head's logit, before calibration"""
    calibration: Calibration
    groups: int
    """of near-duplicates; as many as labels where there are none"""
    calibration_error: float
    """expected, of probabilities by calibrations that did not see them"""

    @property
    def probabilities(self) -> Numbers:
        """[N] of the labels, by fits that did not see them."""
        return self.calibration(self.logits)


@dataclass(frozen=True)
class Lesson:
    """A head that was learned, and what is known of it."""

    rule: Rule
    """as it is now"""
    model: str
    fingerprint: str
    labels: LabelFile
    labels_digest: str
    """SHA-256 of the labels that were used: images, answers and what each stands for"""
    sample: Sample
    """the labels under probabilities that the head gives, by fits that did not see them"""
    fitted: Fitted
    curve: Curve
    comparison: Comparison
    learning_curve: LearningCurve
    suggestions: tuple[Suggestion, ...]
    remarks: tuple[str, ...]


def learn(archive: Archive, compiled: CompiledPolicy, labels: LabelFile, rule_id: str, *, prevalence: float | None) -> Lesson:
    """Learn a head for a rule.

    Args:
        archive: results with the embeddings of the labelled images.
        compiled: the policy as it is now.
        labels: of any rules.
        rule_id: a rule that is scored.
        prevalence: the share of positives in production; by default as the labels' weights say, or the labels as they are.

    Raises:
        SettingsError: there are too few labels, and of what; or both a prevalence and weights are given.
        OutputError: a stored file cannot be read.
    """
    column, rule = next((at, rule) for at, rule in enumerate(compiled.rules) if rule.id == rule_id)
    with threadpool_limits(1):  # sums are added in one order, so that the same input gives the same bytes
        images = labelled_images(archive, {label.uri for label in labels.labels})
        labels = checked(labels, compiled.policy, images.uris, images.unreadable)
        sample, images, remarks = _chosen(labels, rule_id, images, prevalence)
        found = fit(images, sample, compiled.direction(column))
        now = images.scores(compiled.scores(images.vectors))[:, column]
        by_head, by_rule = sample.under(found.probabilities.astype(np.float32)), sample.under(now)
        return Lesson(
            rule=rule,
            model=archive.used.model,
            fingerprint=archive.fingerprint,
            labels=labels,
            labels_digest=_digest(images, sample),
            sample=by_head,
            fitted=found,
            curve=curve(by_head),
            comparison=compare(sample, found.logits, now.astype(np.float64)),
            learning_curve=learning_curve(found.task, found.strength),
            suggestions=suggestions(rule, by_head, by_rule),
            remarks=(*remarks, *_about(rule, compiled, found)),
        )


@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def fit(images: LabelledImages, sample: Sample, direction: Numbers | None) -> Fitted:
    """Fit a head to N labelled images.

    Args:
        images: N of them.
        sample: their labels, in the same order; its scores mean nothing.
        direction: [D] of the rule's own texts, of unit length; None where it has none.

    Raises:
        SettingsError: all labels of a kind are of near-duplicates of one picture.
    """
    task, count = _task(images, sample, direction)
    crossed = cross_fit(task)
    calibration, unseen = calibrated(crossed.logits, sample.truth, sample.mass, task.fold)
    return Fitted(
        task=task,
        strength=crossed.strength,
        logits=crossed.logits,
        line=task.fits(np.ones(len(images), np.bool_), (crossed.strength,))[0],
        calibration=calibration,
        groups=count,
        calibration_error=calibration_error(unseen, sample.truth, sample.mass),
    )


def _chosen(
    labels: LabelFile, rule_id: str, images: LabelledImages, prevalence: float | None
) -> tuple[Sample, LabelledImages, tuple[str, ...]]:
    """The labels that count, in the order of their images, and these."""
    own = [label for label in labels.labels if label.rule == rule_id]
    if prevalence is not None and any(label.weight is not None for label in own):
        line = next(label.line for label in own if label.weight is not None)
        raise SettingsError(
            f"--prevalence is given, and {labels.place([line])} has a weight, which also says how common positives are: "
            "leave out --prevalence or the column `weight`"
        )
    _enough(sum(label.truth is True for label in own), sum(label.truth is False for label in own), rule_id)
    order = {uri: -float(at) for at, uri in enumerate(images.uris)}
    found = judged(labels.labels, rule_id, order, prevalence)
    if isinstance(found, Unusable):
        raise SettingsError(f"labels of {rule_id}: {found.why}")
    sample = found.sample
    _enough(sample.positives, sample.negatives, rule_id)
    return sample, images.take((-sample.scores).astype(np.int64)), found.remarks


def _enough(positives: int, negatives: int, rule_id: str) -> None:
    missing = [
        f"{FEWEST - found:,} more that are {kind}"
        for found, kind in ((positives, "true"), (negatives, "false"))
        if found < FEWEST
    ]
    if missing:
        raise SettingsError(
            f"{positives:,} true and {negatives:,} false labels of {rule_id} can be used: a head needs {FEWEST} of each, so "
            f"label {' and '.join(missing)}; `moderate policy sample --rule {rule_id}` draws images to label"
        )


def _task(images: LabelledImages, sample: Sample, direction: Numbers | None) -> tuple[Task, int]:
    frames = images.vectors.astype(np.float64)
    task = Task(images, frames, sample.truth, sample.mass, direction, np.zeros(len(images), np.int64))
    shown = task.shown(None if direction is None else Line(direction, 0.0))
    group = groups(images, frames[shown])
    found = folds(group, sample.truth)
    count = int(group.max()) + 1
    if len(np.unique(found)) < 2:
        raise SettingsError(
            f"all {'true' if len(np.unique(group[sample.truth])) < 2 else 'false'} labels are of one picture and its "
            "near-duplicates: label images that differ"
        )
    return Task(images, frames, sample.truth, sample.mass, direction, found), count


def _digest(images: LabelledImages, sample: Sample) -> str:
    lines = (
        f"{digest} {int(truth)} {mass!r}\n"
        for digest, truth, mass in zip(
            images.decisions["sha256"].to_pylist(), sample.truth.tolist(), sample.mass.tolist(), strict=True
        )
    )
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _about(rule: Rule, compiled: CompiledPolicy, found: Fitted) -> list[str]:
    remarks = []
    if rule.score is ScoreKind.HEAD and compiled.policy.assets.heads[rule.id].learned is not None:
        remarks.append(
            "the rule is scored by a head already: if that learned from some of these labels, it looks better here than it is"
        )
    if found.task.direction is None:
        remarks.append("the rule has no prompts: add some, and a head from few labels will be better")
    more = len(found.task.truth) - found.groups
    if more:
        remarks.append(f"{more:,} labels are of near-duplicates of other labelled images, and count for little")
    return remarks

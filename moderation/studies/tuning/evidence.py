"""From a file of labels to the sample of each rule: which labels count for it, and as how many images. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.labels.labels import ANY, Label, LabelFile, Remark
from moderation.policy.consistency import known
from moderation.policy.schema import Mode, Policy
from moderation.studies.tuning.intervals import Numbers
from moderation.studies.tuning.samples import Sample, as_found, at_prevalence, strata_of, weighted

FEWEST = 5
"""Labels of each class without which nothing is said about a rule."""
_SAME_POPULATION = 0.01


@dataclass(frozen=True, slots=True)
class Unusable:
    """Labels that a rule cannot be tuned by."""

    why: str


@dataclass(frozen=True)
class Judged:
    """A rule's sample, and what should be known of how it came about."""

    sample: Sample
    remarks: tuple[str, ...] = ()


def checked(file: LabelFile, policy: Policy, scored: Iterable[str], unreadable: frozenset[str]) -> LabelFile:
    """The labels of images and rules that there are; the others as remarks.

    A row of an image without a score stays, as one that is not labelled: its stratum stands for as many images as before.
    """
    usable, there = {rule.id for rule in policy.active_rules}, set(scored)
    off = {rule.id for rule in policy.rules if rule.mode is Mode.OFF}
    contradicting = _against_any(file.labels, {rule.id for rule in policy.rules if rule.mode is Mode.LIVE})
    kept: list[Label] = []
    troubles: dict[str, list[int]] = {}
    for label in file.labels:
        lost = None
        if label.rule in off:
            message = f"the rule {label.rule} is off, so it has no scores: set `mode: shadow`"
            troubles.setdefault(message, []).append(label.line)
            continue
        if label.rule != ANY and label.rule not in usable:
            hint = known("rules", label.rule, sorted(usable))
            troubles.setdefault(f"the policy has no rule {label.rule[:60]!r}: {hint}", []).append(label.line)
            continue
        if label.truth is not None:
            if label.line in contradicting:
                lost = f"an image is labelled true for a live rule and false for `{ANY}`"
            elif label.uri in unreadable:
                lost = "the image could not be scored: it ended in an error"
            elif label.uri not in there:
                lost = "the image is not in the results"
        if lost:
            troubles.setdefault(lost, []).append(label.line)
        kept.append(label if lost is None else Label(label.uri, label.rule, None, label.weight, label.stratum, label.line))
    remarks = (Remark(text, tuple(lines), "left out") for text, lines in troubles.items())
    return LabelFile(file.name, tuple(kept), file.rows, (*file.remarks, *remarks))


def judged(
    labels: Sequence[Label],
    rule: str,
    scores: Mapping[str, float],
    prevalence: float | None,
    above: Callable[[NDArray[np.float32]], Numbers] | None = None,
    images: int = 0,
) -> Judged | Unusable:
    """The sample of one rule, or of the whole policy (`ANY`).

    Args:
        labels: checked ones.
        rule: its id.
        scores: by URI.
        prevalence: the share of positives in production, if the user gave it.
        above: the share of all images above each of some scores.
        images: how many these are.
    """
    own = [label for label in labels if label.rule == rule]
    if any(label.weight is not None for label in own):
        return _by_weight(own, scores, above, images)
    used = [label for label in own if label.truth is not None]
    remarks = []
    if rule != ANY:
        borrowed, silent = _from_any(labels, {label.uri for label in own})
        used += borrowed if prevalence is not None else []
        if borrowed or silent:
            counting = (
                "count as negatives" if prevalence is not None else "would make positives look rarer than they are: skipped"
            )
            remarks.append(
                f"of the labels for `{ANY}`, {len(borrowed):,} say that no rule applies and {counting}; {silent:,} say that "
                "some rule applies, which says nothing about a single rule"
            )
    short = _too_few(used)
    if short is not None:
        return short
    found, truth = _arrays(used, scores)
    if prevalence is not None:
        return Judged(at_prevalence(found, truth, prevalence), tuple(remarks))
    rate = float(truth.mean())
    remarks.insert(
        0,
        f"the labels are used as they are, {100 * rate:.3g} % of them true: a threshold from a balanced sample does "
        "not fit production;  give --prevalence, or label what `moderate policy sample` draws",
    )
    return Judged(as_found(found, truth), tuple(remarks))


def _by_weight(
    own: Sequence[Label],
    scores: Mapping[str, float],
    above: Callable[[NDArray[np.float32]], Numbers] | None,
    images: int,
) -> Judged | Unusable:
    drawn = [label for label in own if label.weight is not None]
    remarks = []
    if len(drawn) < len(own):
        count = len(own) - len(drawn)
        remarks.append(f"{count:,} label{'s' * (count > 1)} without a weight are ignored, since others have one")
    used = [label for label in drawn if label.truth is not None]
    short = _too_few(used)
    if short is not None:
        return short
    all_weights = np.array([label.weight for label in drawn], np.float64)
    groups = strata_of(all_weights, [label.stratum for label in drawn])
    is_used = np.array([label.truth is not None for label in drawn])
    factors = np.ones(len(drawn))
    for group in np.unique(groups):
        rows = groups == group
        if not (rows & is_used).any():
            name = drawn[int(np.flatnonzero(rows)[0])].stratum or f"weight {all_weights[rows][0]:g}"
            part = all_weights[rows].sum() / all_weights.sum()
            return Unusable(
                f"none of the {rows.sum():,} images of the stratum {name!r} is labelled, which stands for {100 * part:.3g} % "
                "of all images: label some of them"
            )
        factors[rows] = all_weights[rows].sum() / all_weights[rows & is_used].sum()
    if not is_used.all():
        open_rows = int((~is_used).sum())
        remarks.append(f"{open_rows:,} drawn images have no usable label; the others of their strata stand for them")
    total = float(all_weights.sum())
    counted = above
    if abs(total / images - 1) > _SAME_POPULATION if images else True:
        counted = None
        if images:
            remarks.append(
                f"the weights add up to {total:,.0f} images, the results hold {images:,}: the sample comes from other "
                "results, so "
                "the number of all scores cannot narrow the intervals"
            )
    found, truth = _arrays(used, scores)
    strata = [str(group) for group in groups[is_used]]
    return Judged(weighted(found, truth, (all_weights * factors)[is_used], strata, counted), tuple(remarks))


def _from_any(labels: Sequence[Label], own: set[str]) -> tuple[list[Label], int]:
    """Labels without weights that say that no rule applies; how many say that some does."""
    general = [label for label in labels if label.rule == ANY and label.weight is None and label.uri not in own]
    return [label for label in general if label.truth is False], sum(label.truth is True for label in general)


def _too_few(labels: Sequence[Label]) -> Unusable | None:
    positives = sum(label.truth is True for label in labels)
    negatives = len(labels) - positives
    if not labels:
        return Unusable("none of its labels can be used")
    if not positives or not negatives:
        return Unusable(
            f"all {len(labels):,} labels are {'true' if positives else 'false'}: label images of the other kind too"
        )
    if min(positives, negatives) < FEWEST:
        return Unusable(f"{positives:,} true and {negatives:,} false labels are too few: label at least {FEWEST} of each")
    return None


def _arrays(labels: Sequence[Label], scores: Mapping[str, float]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return np.array([scores[label.uri] for label in labels], np.float32), np.array([label.truth for label in labels], np.bool_)


def _against_any(labels: Sequence[Label], live: set[str]) -> set[int]:
    """Lines that say that a live rule applies to an image, and that none does."""
    none = {label.uri: label.line for label in labels if label.rule == ANY and label.truth is False}
    lines: set[int] = set()
    for label in labels:
        if label.truth and label.rule in live and label.uri in none:
            lines |= {label.line, none[label.uri]}
    return lines

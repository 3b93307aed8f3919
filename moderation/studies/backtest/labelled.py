"""What labels say about both sides of a backtest: precision and recall of each rule before and after. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moderation.html.text import NONE, number
from moderation.labels.label_file import ANY, Label, LabelFile
from moderation.studies.backtest.sides import Verdicts
from moderation.studies.tuning.evidence import Unusable, judged
from moderation.studies.tuning.thresholds import Point, Ranged, point_at


@dataclass(frozen=True, slots=True)
class Flags:
    """The live rules that flag an image."""

    before: frozenset[str]
    after: frozenset[str]


@dataclass(frozen=True, slots=True)
class LabelledRule:
    """A rule on both sides, by labels; their thresholds mean nothing."""

    rule: str
    """its id, or `any`: the whole policy"""
    positives: int
    negatives: int
    before: Point
    after: Point


@dataclass(frozen=True)
class Labelled:
    """What labels say about a backtest."""

    name: str
    """the file, or `reviews`"""
    rules: tuple[LabelledRule, ...]
    remarks: tuple[str, ...]


def flags_of(uris: pa.ChunkedArray, labelled: pa.Array, before: Verdicts, after: Verdicts) -> dict[str, Flags]:
    """The flags of those of N images that have labels. `uris`: [N]; `labelled`: URIs."""
    at = np.flatnonzero(pc.is_in(uris, value_set=labelled))
    sides = [_by_image(verdicts, set(at.tolist())) for verdicts in (before, after)]
    nothing: frozenset[str] = frozenset()
    return {
        uri: Flags(*(side.get(image, nothing) for side in sides))
        for image, uri in zip(at.tolist(), uris.take(pa.array(at)).to_pylist(), strict=True)
    }


def by_labels(file: LabelFile, found: Mapping[str, Flags], rules: Sequence[str]) -> Labelled:
    """Precision and recall of rules, and of the whole policy, as far as labels say.

    Args:
        file: labels.
        found: the flags of images with labels, by URI. Labels of others are left out.
        rules: of the new policy.
    """
    labels = [label for label in file.labels if label.uri in found]
    remarks = [f"{file.place(remark.lines)}: {remark}" for remark in file.remarks]
    lost = len({label.uri for label in file.labels}) - len({label.uri for label in labels})
    if lost:
        remarks.append(f"{lost:,} labelled images are not among those of the backtest (left out)")
    named = {label.rule for label in labels}
    results = []
    for rule in (*rules, ANY):
        if rule not in named:
            continue
        one = _rule(labels, rule, found)
        if isinstance(one, Unusable):
            remarks.append(f"{'the whole policy' if rule == ANY else rule}: {one.why}")
        else:
            results.append(one)
    return Labelled(file.name, tuple(results), tuple(remarks))


def rows(found: Labelled) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """For a table: the rule, its true and false labels, and precision and recall before and after in words."""
    for rule in found.rules:
        before, after = rule.before, rule.after
        ranges = (before.precision, after.precision, before.recall, after.recall)
        name = "the whole policy" if rule.rule == ANY else rule.rule
        yield name, f"{number(rule.positives)}, {number(rule.negatives)}", tuple(map(_share, ranges))


def _share(found: Ranged | None) -> str:
    return NONE if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _rule(labels: Sequence[Label], rule: str, found: Mapping[str, Flags]) -> LabelledRule | Unusable:
    points: list[Point] = []
    own = [label for label in labels if label.rule == rule]
    for side in ("before", "after"):
        flags: dict[str, frozenset[str]] = {uri: getattr(both, side) for uri, both in found.items()}
        scores = {uri: float(bool(flagged) if rule == ANY else rule in flagged) for uri, flagged in flags.items()}
        one = judged(labels, rule, scores, None)
        if isinstance(one, Unusable):
            return one
        points.append(point_at(one.sample, 0.5))
    before, after = points
    positives = sum(label.truth is True for label in own)
    return LabelledRule(rule, positives, sum(label.truth is False for label in own), before, after)


def _by_image(verdicts: Verdicts, images: set[int]) -> dict[int, frozenset[str]]:
    names: dict[int, set[str]] = {}
    for image, rule in _pairs(verdicts):
        if image in images:
            names.setdefault(image, set()).add(rule)
    return {image: frozenset(those) for image, those in names.items()}


def _pairs(verdicts: Verdicts) -> Iterator[tuple[int, str]]:
    for image, rule in zip(verdicts.flag_image.tolist(), verdicts.flag_rule.tolist(), strict=True):
        yield image, verdicts.names[rule]

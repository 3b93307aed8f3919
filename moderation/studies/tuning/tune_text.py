"""What tuning found, in words: the same in the terminal, on the page and in a policy's comments. Pure."""

from moderation.html.text import NONE, threshold
from moderation.labels.labels import ANY
from moderation.studies.tuning.samples import Sample
from moderation.studies.tuning.thresholds import NARROW, Choice, Point, Ranged, Unreachable, share
from moderation.studies.tuning.tune import Budgeted, Key, RuleTuning, Tuning


def ranged(found: Ranged | None) -> str:
    """0.951 (0.913 to 0.978)."""
    return NONE if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def basis(sample: Sample) -> str:
    """The source of the prevalence."""
    if sample.basis == "prevalence":
        return f"prevalence {share(sample.prevalence)} as given"
    interval = sample.prevalence_interval()
    message = f" ({share(interval[0])} to {share(interval[1])})" if interval else ""
    source = "by the weights of the labels" if sample.basis == "weights" else "as in the labels"
    return f"prevalence {share(sample.prevalence)}{message} {source}"


def counts(sample: Sample) -> str:
    """203 true and 209 false labels."""
    return f"{sample.positives:,} true and {sample.negatives:,} false labels"


Line = tuple[str, str, str, str, str]
"""Threshold, precision, recall, images at or above it a day, and how many of these go to people"""


def line_of(one: RuleTuning, point: Point, key: Key) -> Line:
    """What a threshold does. Images that are blocked do not go to people."""
    per_day = one.flagged_per_day(point.threshold)
    people = f"{one.reviews_per_day(point.threshold):,.4g}" if key == "review" else NONE
    return threshold(point.threshold), ranged(point.precision), ranged(point.recall), f"{per_day:,.4g}", people


def rows(one: RuleTuning) -> list[tuple[str, Line]]:
    """A name and its line for each threshold that there is, and for the one that was found."""
    found = [(f"{key} now", line_of(one, point, key)) for key, point in one.now]
    if one.chosen is not None:
        found.append((f"{one.key} tuned", line_of(one, one.chosen, one.key)))
    if isinstance(one.found, Unreachable):
        found.append(("closest", line_of(one, one.found.best, one.key)))
    return found


def headline(one: RuleTuning) -> str:
    """What the labels say of a threshold, in words for somebody who knows no statistics.

    Of the tuned threshold; where none was asked for, of the one that the policy has.
    """
    point = one.chosen or (one.found.best if isinstance(one.found, Unreachable) else None)
    point = point or next((at for key, at in one.now if key == one.key), one.now[0][1] if one.now else None)
    if point is None or point.precision is None:
        return ""
    at, right = threshold(point.threshold), point.precision
    message = f"At {at}, about {_of_100(right.value)} of 100 flagged images are right"
    if point.recall is not None:
        message += f", and about {_of_100(point.recall.value)} of 100 that should be flagged are"
    if right.value - right.low > NARROW:
        more = one.found.more_labels if isinstance(one.found, Choice) else None
        message += f"; with these labels it could be as few as {_of_100(right.low)} of 100 that are right"
        message += f": label about {more:,} more" if more else ": label more"
    return message


def _of_100(value: float) -> str:
    """95; fewer than 1."""
    return "fewer than 1" if 0 < value < 0.005 else f"{100 * value:.0f}"


def outcome(one: RuleTuning) -> str:
    """What became of the target; nothing where there is none."""
    found = one.found
    if isinstance(found, Choice):
        how = "by the lower end of its interval" if found.confident else "by the estimate"
        side = "the lowest" if found.measure == "precision" else "the highest"
        at = threshold(found.point.threshold)
        return f"{one.key} {at}: {side} threshold with {found.measure} {found.target:g}, {how}; {_interval(found)}"
    if isinstance(found, Unreachable) and found.measure == "reviews_per_day":
        at, reviews = threshold(found.best.threshold), one.reviews_per_day(found.best.threshold)
        return f"{found.target:g} reviews per day cannot be met: even from {at}, {reviews:,.4g} are expected"
    if isinstance(found, Unreachable):
        best = found.best.precision if found.measure == "precision" else found.best.recall
        what = "the lower end of its interval" if found.confident else "the estimate"
        return (
            f"{found.measure} {found.target:g} cannot be reached by {what}: the best is {ranged(best)} from "
            f"{threshold(found.best.threshold)}"
        )
    if isinstance(found, Budgeted):
        at, reviews = threshold(found.point.threshold), one.reviews_per_day(found.point.threshold)
        return (
            f"{one.key} {at}: the lowest threshold with at most {found.target:g} reviews per day; {reviews:,.4g} are expected"
        )
    return ""


def after(one: RuleTuning) -> str:
    """The effect of more labels; empty without a target."""
    found = one.found
    if not isinstance(found, Choice) or found.more_labels is None:
        return ""
    if found.more_labels == 0:
        return f"the interval of the {found.measure} is no wider than {100 * NARROW:g} points"
    narrow = f"{100 * NARROW:g} points"
    return f"about {found.more_labels:,} more labels like these would narrow the interval of the {found.measure} to {narrow}"


def evidence(one: RuleTuning, day: str) -> str:
    """The evidence for a threshold, as one line for the policy file."""
    point = one.chosen
    if point is None:
        raise ValueError(f"there is no threshold for {one.rule.id}")
    parts = [f"precision {ranged(point.precision)}, recall {ranged(point.recall)}", counts(one.sample), basis(one.sample)]
    if isinstance(one.found, Choice):
        least = ", lower end" if one.found.confident else ""
        parts.append(f"for {one.found.measure} {one.found.target:g}{least}; {_interval(one.found)}")
    if isinstance(one.found, Budgeted):
        parts.append(f"for {one.found.target:g} reviews per day")
    return f"tuned {day}: {'; '.join(parts)}"


def label_remarks(found: Tuning) -> list[str]:
    """What should be known of the file of labels, each with its lines."""
    file = found.labels
    message = [f"{file.place(remark.lines)}: {remark}" for remark in file.remarks]
    if file.open:
        lines = [label.line for label in file.labels if label.truth is None]
        message.append(f"{file.place(lines)}: {file.open:,} rows have no usable label")
    message += [f"{'the whole policy' if rule == ANY else rule}: {why}" for rule, why in found.unusable.items()]
    if found.unlabelled:
        message.append(f"no labels for {', '.join(found.unlabelled)}")
    return message


def _interval(found: Choice) -> str:
    if found.low is None and found.high is None:
        return "the labels do not show where the true threshold is"
    low = "anywhere below" if found.low is None else f"{found.low:.4g}"
    if found.high is None:
        return f"the true threshold is above {low}; the labels do not show how far"
    if found.low is None:
        return f"the true threshold is below {found.high:.4g}; the labels do not show how far"
    return f"the true threshold is between {low} and {found.high:.4g}"

"""What learning found, in words: the same in the terminal and in a policy's comments. Pure."""

from moderation.html.text import threshold
from moderation.studies.learning.comparison import Measured
from moderation.studies.learning.learn import Lesson
from moderation.studies.learning.learning_curve import MORE
from moderation.studies.learning.suggesting import Suggestion
from moderation.studies.tuning.curves import Area
from moderation.studies.tuning.thresholds import share
from moderation.studies.tuning.tune_text import basis, counts, ranged

_VISIBLE = 0.0005


def summary(lesson: Lesson) -> str:
    """What it was learned from."""
    texts = (
        "pulled towards the rule's own texts"
        if lesson.fitted.task.direction is not None
        else "without texts to be pulled towards"
    )
    return f"{counts(lesson.sample)} in {lesson.fitted.task.count} folds, {texts}; {basis(lesson.sample)}"


def verdict(lesson: Lesson) -> str:
    """Whether it is better than the rule as it is."""
    found = lesson.comparison
    gain = f"{found.gain.value:+.3f} ({found.gain.low:+.3f} to {found.gain.high:+.3f})"
    pairs = f"a true image scores above a false one in {_percent(found.auc)} of pairs; now {_percent(found.rule_auc)}"
    if found.verdict == "better":
        return f"the head is better than the rule is now: {pairs}; difference {gain}"
    if found.verdict == "worse":
        return f"the head is worse than the rule is now, do not use it: {pairs}; difference {gain}"
    if found.gain.low > 0:
        return f"the head ranks better, but its average precision is lower, so it may not help: {pairs}; difference {gain}"
    return f"these labels do not show that the head is better than the rule is now: {pairs}; difference {gain}"


def precision_lines(lesson: Lesson) -> tuple[tuple[str, str, str], ...]:
    """Figures of the head and of the rule as it is: a name and both."""
    found = lesson.comparison
    return (
        ("average precision", _area(found.precision), _area(found.rule_precision)),
        ("AUC", _measured(found.auc), _measured(found.rule_auc)),
    )


def calibration(lesson: Lesson) -> str:
    """What its score means."""
    found = lesson.fitted
    return (
        f"scores are probabilities where {share(lesson.sample.prevalence)} of images are positive; "
        f"{found.calibration.method} calibration, expected error {found.calibration_error:.3f} on labels that it did not see"
    )


def growth(lesson: Lesson) -> str:
    """What more labels would bring."""
    found = lesson.learning_curve
    points = ", ".join(f"{point.auc:.3f} with {point.labels:,}" for point in found.points)
    if found.expected is None or found.gain < _VISIBLE:
        return f"AUC by number of labels: {points}; more labels of this kind show no visible gain"
    return f"AUC by number of labels: {points}; {MORE} more would bring about {found.expected:.3f}"


def suggestion(one: Suggestion) -> str:
    """A threshold, and what it keeps."""
    kept = "finds as many" if one.measure == "recall" else "is right as often"
    now = one.now.recall if one.measure == "recall" else one.now.precision
    does = f"precision {ranged(one.point.precision)}, recall {ranged(one.point.recall)}"
    if not one.reached:
        kept = f"comes closest to {one.measure} {one.target:.3f}"
    elif now is None or abs(now.value - one.target) > _VISIBLE:
        kept = f"has {one.measure} {one.target:g}"
    else:
        kept += f" as the rule does now ({one.measure} {now.value:.3f})"
    return f"{one.key} {threshold(one.point.threshold)} {kept}: {does}"


def comment(lesson: Lesson, one: Suggestion, day: str) -> str:
    """The evidence for a threshold, as one line for the policy file."""
    does = f"precision {ranged(one.point.precision)}, recall {ranged(one.point.recall)}"
    return f"suggested {day}: {does}; {counts(lesson.sample)}; {basis(lesson.sample)}"


def head_comment(lesson: Lesson, day: str) -> str:
    """The evidence for a head, as one line for the policy file."""
    gain = lesson.comparison.gain
    return (
        f"learned {day}: {counts(lesson.sample)}; {basis(lesson.sample)}; AUC {_measured(lesson.comparison.auc)}, "
        f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) against the rule before"
    )


def _percent(found: Measured) -> str:
    return f"{100 * found.value:.1f} %"


def _measured(found: Measured) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _area(found: Area) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"

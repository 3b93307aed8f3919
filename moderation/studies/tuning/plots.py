"""Drawings of a rule's curves, for the page and as a file of their own. The same numbers give the same text."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from moderation.html.svg import WIDTH, Plot, area, f, line, path, svg, text, ticks
from moderation.html.templates import template
from moderation.html.text import number, threshold
from moderation.measures.intervals import Estimate, Numbers
from moderation.studies.tuning.thresholds import Point, Ranged, Unreachable
from moderation.studies.tuning.tune import RuleTuning, Target

HEIGHT = 242
_TOP, _BOTTOM = 72, 200
_POINTS = 250
_BINS = 40


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing."""

    parts: tuple[Markup, ...]
    words: str
    """its content, for those who cannot see it"""

    def __html__(self) -> str:
        return svg(self.parts, HEIGHT, self.words)


def panels(one: RuleTuning, target: Target | None) -> tuple[Panel, Panel, Panel]:
    """Precision and recall by threshold, one against the other, and the scores of true and false labels."""
    return _by_threshold(one, target), _against(one, target), _scores(one)


def picture(one: RuleTuning, target: Target | None) -> str:
    """The three drawings side by side as an SVG file, light or dark as the reader's system is."""
    shown = panels(one, target)
    title = f"{one.rule.id}: {one.sample.positives:,} true, {one.sample.negatives:,} false labels"
    return template("tune_plots.svg.j2", {}).render(
        title=title,
        words=" ".join(f"{panel.words}." for panel in shown),
        panels=[(index * (WIDTH + 24), Markup("").join(panel.parts)) for index, panel in enumerate(shown)],
        width=3 * WIDTH + 2 * 24,
        height=HEIGHT,
    )


def _by_threshold(one: RuleTuning, target: Target | None) -> Panel:
    scores = one.curve.thresholds
    plot = _plot(*_span(one))
    keep = _thinned(len(scores))
    x = np.array([plot.x(float(score)) for score in scores[keep]])
    parts = [*_frame("Precision and recall by threshold", plot, "threshold"), *_shares(plot)]
    for name, found in (("precision", one.curve.precision), ("recall", one.curve.recall)):
        parts += _curve(plot, x, found, keep, name)
        if target is not None and target.measure == name:
            parts.append(line(plot.left, plot.y(target.value), plot.right, plot.y(target.value), f"target {name}"))
    parts += [*_legend(plot, "precision", "recall"), *_marks(one, plot)]
    marked = [f"{name} {threshold(point.threshold)}: {_told(point)}" for name, point in _named(one)]
    words = f"Precision and recall of {one.rule.id} by threshold, each with a 95 % band for the whole curve"
    return Panel(tuple(parts), "; ".join([words, *marked]))


def _against(one: RuleTuning, target: Target | None) -> Panel:
    plot = _plot(0.0, 1.0)
    keep = _thinned(len(one.curve.thresholds))
    x = np.array([plot.x(float(recall)) for recall in one.curve.recall.value[keep]])
    parts = [*_frame("Precision against recall", plot, "recall"), *_shares(plot)]
    low, high = (_pairs(plot, x, numbers[keep]) for numbers in (one.curve.precision.low, one.curve.precision.high))
    parts.append(area([*low, *high[::-1]], "band precision"))
    parts.append(path(_pairs(plot, x, one.curve.precision.value[keep]), "path precision"))
    if target is not None and target.measure == "precision":
        parts.append(line(plot.left, plot.y(target.value), plot.right, plot.y(target.value), "target precision"))
    if target is not None and target.measure == "recall":
        parts.append(line(plot.x(target.value), plot.top, plot.x(target.value), plot.bottom, "target recall"))
    point = _marked(one)
    if point is not None and point.precision is not None:
        parts += _cross(plot, point.recall, point.precision, _name(one))
    told = f"average precision {one.area.value:.3f} ({one.area.low:.3f} to {one.area.high:.3f})"
    parts.append(text(plot.left, 27, told))
    return Panel(tuple(parts), f"Precision of {one.rule.id} against recall, with a 95 % band for the whole curve; {told}")


def _scores(one: RuleTuning) -> Panel:
    """True labels above the axis and false ones below it, each on its own scale: one kind is often much rarer."""
    scores, truth = one.sample.scores, one.sample.truth
    low, high = _span(one)
    plot = _plot(low, high)
    edges = np.linspace(low, high, _BINS + 1)
    parts = _frame("Scores of the labelled images", plot, "score")
    middle, half = (plot.top + plot.bottom) / 2, (plot.bottom - plot.top) / 2 - 2
    for name, rows, up in (("true", truth, 1), ("false", ~truth, -1)):
        counts, _ = np.histogram(scores[rows].astype(np.float64), edges)
        most = int(counts.max()) or 1
        parts += [
            line(plot.left, middle - up * half, plot.right, middle - up * half, "grid"),
            text(plot.left - 4, middle - up * half + 3, number(most), anchor="end"),
        ]
        for start, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
            if count:
                parts.append(_bar(plot, (float(start), float(end)), middle, up * max(half * count / most, 1.0), name, count))
    parts += [line(plot.left, middle, plot.right, middle, "axis"), text(plot.left - 4, middle + 3, "0", anchor="end")]
    parts += [*_legend(plot, "true", "false"), *_marks(one, plot)]
    words = f"Scores of {number(one.sample.positives)} true and {number(one.sample.negatives)} false labels of {one.rule.id}"
    return Panel(tuple(parts), f"{words}, from {scores[-1]:.3f} to {scores[0]:.3f}")


def _plot(low: float, high: float) -> Plot:
    return Plot(height=HEIGHT, left=38, right=WIDTH - 6, top=_TOP, bottom=_BOTTOM, low=low, high=high)


def _span(one: RuleTuning) -> tuple[float, float]:
    """The range of the labels' scores and of the thresholds."""
    shown = [float(one.sample.scores[0]), float(one.sample.scores[-1]), *(point.threshold for _, point in _named(one))]
    low, high = min(shown), max(shown)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _frame(title: str, plot: Plot, below: str) -> list[Markup]:
    """The title, and the axis at the bottom with its numbers."""
    parts = [text(0, 11, title, "now"), line(plot.left, plot.bottom, plot.right, plot.bottom, "axis")]
    for value in ticks(plot.low, plot.high):
        x = plot.x(value)
        parts.append(text(x, plot.bottom + 14, f"{value:.4g}", anchor="end" if x > plot.right - 6 else "middle"))
    return [*parts, text((plot.left + plot.right) / 2, plot.height - 8, below, anchor="middle")]


def _shares(plot: Plot) -> list[Markup]:
    """The scale from 0 to 1 at the left."""
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = plot.y(share)
        parts += [line(plot.left, y, plot.right, y, "grid"), text(plot.left - 4, y + 3, f"{share:g}", anchor="end")]
    return parts


def _legend(plot: Plot, first: str, second: str) -> list[Markup]:
    named = Markup('<tspan class="label {0}">{0}</tspan> <tspan class="label {1}" dx="9">{1}</tspan>').format(first, second)
    return [text(plot.left, 27, named)]


def _curve(plot: Plot, x: Numbers, found: Estimate, keep: NDArray[np.int64], name: str) -> Iterator[Markup]:
    """A curve of steps with its band. Each value holds down to the next lower threshold."""
    low, high, value = (_steps(_pairs(plot, x, numbers[keep])) for numbers in (found.low, found.high, found.value))
    yield area([*low, *high[::-1]], f"band {name}")
    yield path(value, f"path {name}")


def _steps(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    corners = [(following[0], place[1]) for place, following in pairwise(places)]
    return [place for pair in zip(places, corners, strict=False) for place in pair] + places[-1:]


def _pairs(plot: Plot, x: Numbers, shares: Numbers) -> list[tuple[float, float]]:
    """Places in user units; without those where there is nothing to divide by."""
    known = np.isfinite(x) & np.isfinite(shares)
    return [(left, plot.y(share)) for left, share in zip(x[known].tolist(), shares[known].tolist(), strict=True)]


def _bar(plot: Plot, edges: tuple[float, float], base: float, height: float, kind: str, count: int) -> Markup:
    """A bar from `base` upwards; a negative height goes downwards."""
    left, right = plot.x(edges[0]), plot.x(edges[1])
    return Markup('<rect class="bin {}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
        kind,
        f(left + 0.07 * (right - left)),
        f(base - max(height, 0)),
        f(0.86 * (right - left)),
        f(abs(height)),
        f"{edges[0]:.4g} to {edges[1]:.4g}: {number(count)} {kind}",
    )


def _marks(one: RuleTuning, plot: Plot) -> list[Markup]:
    """Upright lines at thresholds, each with its label in a row of its own above the plot."""
    parts = []
    tuned = _marked(one) is not None
    for index, (name, point) in enumerate(_named(one)):
        chosen = tuned and index == 0
        x = plot.x(point.threshold)
        row = 41 + 12 * index
        right = x > (plot.left + plot.right) / 2
        parts.append(line(x, row - 8, x, plot.bottom, "mark chosen" if chosen else "mark now dashed"))
        words = f"{name} {threshold(point.threshold)}"
        parts.append(text(x + (-4 if right else 4), row, words, "label chosen" if chosen else "", "end" if right else "start"))
    return parts


def _cross(plot: Plot, recall: Ranged, precision: Ranged, name: str) -> Iterator[Markup]:
    """A point with its two intervals."""
    x, y = plot.x(recall.value), plot.y(precision.value)
    yield line(plot.x(recall.low), y, plot.x(recall.high), y, "mark chosen")
    yield line(x, plot.y(precision.low), x, plot.y(precision.high), "mark chosen")
    told = f"{name}: precision {precision.value:.3f}, recall {recall.value:.3f}"
    yield Markup('<circle class="dot chosen" cx="{}" cy="{}" r="3"><title>{}</title></circle>').format(f(x), f(y), told)


def _named(one: RuleTuning) -> list[tuple[str, Point]]:
    """The thresholds that are drawn: the one for the target first, if there is one."""
    point = _marked(one)
    return [*([(_name(one), point)] if point is not None else []), *((f"{key} now", current) for key, current in one.now)]


def _told(point: Point) -> str:
    precision = f"precision {point.precision.value:.3f}, " if point.precision is not None else ""
    return f"{precision}recall {point.recall.value:.3f}"


def _marked(one: RuleTuning) -> Point | None:
    return one.found.best if isinstance(one.found, Unreachable) else one.chosen


def _name(one: RuleTuning) -> str:
    return "closest" if isinstance(one.found, Unreachable) else f"{one.key} tuned"


def _thinned(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(np.int64))

"""Histograms of scores. Pure."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from moderation.html.svg import WIDTH, Plot, f, line, svg, text, ticks
from moderation.html.text import number, threshold
from moderation.policy.schema import Mode, Rule
from moderation.results.aggregates import RuleAggregate

LEFT, RIGHT = 38.0, WIDTH - 6.0
"""Where the plane of a histogram begins and ends, of `WIDTH` units."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram without thresholds, for pages that put them on it."""

    chart: Markup
    low: float
    high: float
    """the scores at the edges of its plane, `LEFT` and `RIGHT`"""


def histogram(rule: Rule, aggregate: RuleAggregate) -> Markup:
    """How a rule's scores are spread: log-scaled counts, thresholds as marked lines."""
    plot = _plot(rule, aggregate)
    scale = _Counts(max(aggregate.histogram, default=0))
    parts = [*_thresholds(rule, plot), *_grid(plot, scale), *_bars(aggregate, plot, scale), *_axis(plot)]
    return svg(parts, plot.height, describe(rule, aggregate))


def distribution(rule: Rule, aggregate: RuleAggregate) -> Distribution:
    """The same without the thresholds."""
    plot = _plot(rule, aggregate)
    scale = _Counts(max(aggregate.histogram, default=0))
    parts = [*_grid(plot, scale), *_bars(aggregate, plot, scale), *_axis(plot)]
    return Distribution(svg(parts, plot.height, describe(rule, aggregate)), plot.low, plot.high)


def _plot(rule: Rule, aggregate: RuleAggregate) -> Plot:
    low, high = _span(rule, aggregate)
    return Plot(height=150, left=LEFT, right=RIGHT, top=28, bottom=118, low=low, high=high)


def describe(rule: Rule, aggregate: RuleAggregate) -> str:
    """The histogram in words."""
    marks = [
        f"{name} from {threshold(value)}"
        for name, value in (("review", rule.review), ("block", rule.block))
        if value is not None
    ]
    return (
        f"Histogram of {number(aggregate.scored)} scores of the rule {rule.id}, "
        f"lowest {aggregate.minimum:.3f}, highest {aggregate.maximum:.3f}; {', '.join(marks)}"
    )


class _Counts:
    """A logarithmic scale for counts. It begins below one, so that a single image is a bar that can be seen."""

    def __init__(self, highest: int) -> None:
        self.top = max(10.0, highest * 1.6)
        self._floor = math.log10(0.6)

    def share(self, count: float) -> float:
        """Of the height; 0 for none."""
        return (math.log10(count) - self._floor) / (math.log10(self.top) - self._floor) if count else 0.0

    def ticks(self) -> list[int]:
        """At most five powers of ten."""
        powers = range(math.floor(math.log10(self.top)) + 1)
        return [10**power for power in powers[:: math.ceil(len(powers) / 5)]]


def _bars(aggregate: RuleAggregate, plot: Plot, scale: _Counts) -> list[Markup]:
    edges = _edges(aggregate)
    bars = []
    for start, end, count in zip(edges, edges[1:], aggregate.histogram, strict=False):
        if plot.low <= (start + end) / 2 <= plot.high:
            top, left, right = plot.y(scale.share(count)), plot.x(start), plot.x(end)
            bars.append(
                Markup('<rect class="bin" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                    f(left + 0.07 * (right - left)),
                    f(top),
                    f(0.86 * (right - left)),
                    f(plot.bottom - top),
                    f"{start:.4g} to {end:.4g}: {number(count)}",
                )
            )
    return bars


def _thresholds(rule: Rule, plot: Plot) -> list[Markup]:
    """Lines at the thresholds, each with its label above the plot: block on the upper row, review on the lower."""
    parts = []
    end = rule.block if rule.block is not None else plot.high
    for name, value, until, row in (("review", rule.review, end, 22), ("block", rule.block, plot.high, 10)):
        if value is None:
            continue
        x, dashed = plot.x(value), " dashed" if rule.mode is Mode.SHADOW else ""
        parts.append(
            Markup('<rect class="zone {}" x="{}" y="{}" width="{}" height="{}"/>').format(
                name, f(x), f(plot.top), f(max(plot.x(until) - x, 0)), f(plot.bottom - plot.top)
            )
        )
        parts.append(line(x, row - 8, x, plot.bottom, f"mark {name}{dashed}"))
        right = value > (plot.low + plot.high) / 2
        parts.append(
            text(x + (-4 if right else 4), row, f"{name} {threshold(value)}", f"label {name}", "end" if right else "start")
        )
    return parts


def _grid(plot: Plot, scale: _Counts) -> list[Markup]:
    parts = [text(0, 10, "images")]
    for tick in scale.ticks():
        y = plot.y(scale.share(tick))
        parts += [line(plot.left, y, plot.right, y, "grid"), text(plot.left - 4, y + 3, _short(tick), anchor="end")]
    return parts


def _axis(plot: Plot) -> list[Markup]:
    parts = [line(plot.left, plot.bottom, plot.right, plot.bottom, "axis")]
    for value in ticks(plot.low, plot.high):
        x = plot.x(value)
        parts.append(text(x, plot.bottom + 12, f"{value:.4g}", anchor="end" if x > plot.right - 6 else "middle"))
    parts.append(text((plot.left + plot.right) / 2, plot.height - 6, "score", anchor="middle"))
    return parts


def _span(rule: Rule, aggregate: RuleAggregate) -> tuple[float, float]:
    """The scores shown. Cosines use a small part of -1 to 1: only that part, and the thresholds, are drawn."""
    if aggregate.low >= 0:
        return aggregate.low, aggregate.high
    edges = _edges(aggregate)
    used = [i for i, count in enumerate(aggregate.histogram) if count] or [len(aggregate.histogram) // 2]
    margin = 2 * (edges[1] - edges[0])
    low, high = min(edges[used[0]], *rule.thresholds), max(edges[used[-1] + 1], *rule.thresholds)
    return max(aggregate.low, low - margin), min(aggregate.high, high + margin)


def _edges(aggregate: RuleAggregate) -> list[float]:
    width = (aggregate.high - aggregate.low) / len(aggregate.histogram)
    return [aggregate.low + i * width for i in range(len(aggregate.histogram) + 1)]


def _short(value: float) -> str:
    """1, 10, 100, 1k, 10k, 1M."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"

"""Images by the day they were last modified, before and after, as a drawing. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from markupsafe import Markup

from moderation.html.svg import WIDTH, Plot, f, line, svg, text
from moderation.html.text import number
from moderation.studies.backtest.backtest_result import Actions, BeforeAfter

MOST = 45
"""Pairs of bars in a drawing."""
_HEIGHT = 140


@dataclass(frozen=True, slots=True)
class Span:
    """Some days on end: one day, a week, a month or a year."""

    label: str
    found: BeforeAfter


@dataclass(frozen=True, slots=True)
class Spans:
    """A calendar without gaps."""

    unit: str
    """day, week, month or year"""
    spans: tuple[Span, ...]
    """oldest first"""
    left_out: int = 0
    """images older than the first span"""


def spans(days: Mapping[str, BeforeAfter]) -> Spans:
    """Days, or the shortest of week, month and year that gives at most `MOST` spans; of years the last ones."""
    dated = sorted((date.fromisoformat(name), found) for name, found in days.items())
    if not dated:
        return Spans("day", ())
    for unit in _UNITS:
        start, following, label = _UNITS[unit]
        first, last = start(dated[0][0]), start(dated[-1][0])
        if unit == "year":
            first = max(first, date(max(last.year - MOST + 1, 1), 1, 1))
        starts = _starts(first, last, following)
        if len(starts) <= MOST:
            break
    sums = dict.fromkeys(starts, BeforeAfter())
    left_out = 0
    for when, found in dated:
        if start(when) in sums:
            sums[start(when)] += found
        else:
            left_out += found.before.images
    return Spans(unit, tuple(Span(label(when), found) for when, found in sums.items()), left_out)


def day_bars(shown: Spans, action: str, name: str) -> Markup:
    """Pairs of bars, before and after, for the images of one action: `review` or `block`. `name`: the action in words."""
    pairs = [(_count(span.found.before, action), _count(span.found.after, action)) for span in shown.spans]
    top = max((max(pair) for pair in pairs), default=0) or 1
    plot = Plot(height=_HEIGHT, left=38, right=WIDTH - 6, top=16, bottom=_HEIGHT - 24, low=0, high=max(len(pairs), 1))
    parts = [
        text(plot.left - 4, plot.top + 3, number(top), anchor="end"),
        text(plot.left - 4, plot.bottom + 3, "0", anchor="end"),
        line(plot.left, plot.top, plot.right, plot.top, "grid"),
        line(plot.left, plot.bottom, plot.right, plot.bottom, "axis"),
    ]
    width = min((plot.right - plot.left) / max(len(pairs), 1), 60.0)
    for index, (span, pair) in enumerate(zip(shown.spans, pairs, strict=True)):
        message = f"{span.label}: {number(pair[0])} before, {number(pair[1])} after"
        left = plot.x(index) + (plot.x(1) - plot.x(0) - width) / 2
        bars = [_bar(plot, left + width * at, 0.4 * width, n / top, kind) for at, n, kind in _pair(pair, action)]
        parts.append(Markup("<g><title>{}</title>{}</g>").format(message, Markup("").join(bars)))
    if shown.spans:
        parts.append(text(plot.left, plot.height - 8, shown.spans[0].label))
    if len(shown.spans) > 1:
        parts.append(text(plot.right, plot.height - 8, shown.spans[-1].label, anchor="end"))
    before, after = (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0, 0)
    return svg(parts, plot.height, f"{name} by {shown.unit}: {number(before)} in all before, {number(after)} after")


def _pair(pair: tuple[int, int], action: str) -> tuple[tuple[float, int, str], ...]:
    return (0.1, pair[0], "bin"), (0.5, pair[1], f"bin {action}")


def _bar(plot: Plot, left: float, width: float, share: float, kind: str) -> Markup:
    top = min(plot.y(share), plot.bottom - 1) if share else plot.bottom  # a single image is a bar that can be seen
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        kind, f(left), f(top), f(width), f(plot.bottom - top)
    )


def _count(actions: Actions, action: str) -> int:
    return actions.block if action == "block" else actions.review


def _starts(first: date, last: date, following: Callable[[date], date]) -> list[date]:
    """From the first to the last; one more than `MOST` at most."""
    starts = [first]
    while starts[-1] < last and len(starts) <= MOST:
        starts.append(following(starts[-1]))
    return starts


def _day(when: date) -> str:
    return f"{when.day} {when:%b %Y}"


_UNITS: Mapping[str, tuple[Callable[[date], date], Callable[[date], date], Callable[[date], str]]] = {
    "day": (lambda d: d, lambda d: d + timedelta(1), _day),
    "week": (lambda d: d - timedelta(d.weekday()), lambda d: d + timedelta(7), lambda d: f"week of {_day(d)}"),
    "month": (lambda d: d.replace(day=1), lambda d: (d.replace(day=1) + timedelta(32)).replace(day=1), lambda d: f"{d:%b %Y}"),
    "year": (lambda d: date(d.year, 1, 1), lambda d: date(d.year + 1, 1, 1), lambda d: str(d.year)),
}
"""The start of the unit that a day lies in, the start of the following one, and what it is called."""

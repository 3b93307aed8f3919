"""The share of images that a rule flagged, run by run. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from moderation.html.svg import WIDTH, Plot, f, line, path, svg, text
from moderation.html.text import day, percent
from moderation.report.changes import flags_of
from moderation.results.history import EarlierRun


@dataclass(frozen=True, slots=True)
class Point:
    """One run: `flagged` of `scored` images."""

    day: str
    flagged: int
    scored: int
    identity: tuple[str, str]
    """policy hash and model fingerprint"""

    @property
    def rate(self) -> float:
        """In 0 to 1."""
        return self.flagged / self.scored

    @property
    def words(self) -> str:
        """2.0%, as the page shows it elsewhere."""
        return percent(self.flagged, self.scored)


def points(rule: str, now: EarlierRun, earlier: Sequence[EarlierRun]) -> list[Point]:
    """Oldest first, this run last. Runs that scored nothing, or may not have known the rule, are left out."""
    return [
        Point(day(run.started_at), flags, run.scored, (run.policy_hash, run.model_fingerprint))
        for run in (*reversed(earlier), now)
        if run.scored and (flags := flags_of(run, rule, now.policy_hash)) is not None
    ]


def trend(rule: str, shown: Sequence[Point], newest: str = "this run") -> Markup | None:
    """A line through at least two points; None for fewer. A dashed upright stands where policy or model changed.

    `newest`: what the last point is called.
    """
    if len(shown) < 2:
        return None
    highest = max(shown, key=lambda point: point.rate)
    top = highest.rate or 1.0
    plot = Plot(height=84, left=38, right=WIDTH - 44, top=12, bottom=62, low=0, high=len(shown) - 1)
    places = [(plot.x(i), plot.y(point.rate / top)) for i, point in enumerate(shown)]
    parts = [
        line(plot.left, plot.bottom, plot.right, plot.bottom, "axis"),
        text(plot.left - 4, plot.bottom + 3, "0", anchor="end"),
    ]
    if highest.flagged:
        parts += [line(plot.left, plot.top, plot.right, plot.top, "grid")]
        parts += [text(plot.left - 4, plot.top + 3, highest.words, anchor="end")]
    for i in range(1, len(shown)):
        if shown[i].identity != shown[i - 1].identity:
            x = (places[i - 1][0] + places[i][0]) / 2
            parts.append(
                Markup("<g><title>policy or model changed</title>{}</g>").format(line(x, plot.top, x, plot.bottom, "edge"))
            )
    parts.append(path(places, "path"))
    for i, ((x, y), point) in enumerate(zip(places, shown, strict=True)):
        last = i == len(shown) - 1
        parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                "dot now" if last else "dot", f(x), f(y), "3.5" if last else "2.2", f"{point.day}: {point.words}"
            )
        )
    parts.append(text(places[-1][0] + 7, places[-1][1] + 3, shown[-1].words, "now"))
    parts += [text(plot.left, plot.height - 8, shown[0].day), text(plot.right, plot.height - 8, newest, anchor="end")]
    rates = ", ".join(point.words for point in shown)
    return svg(
        parts, plot.height, f"Share of images that the rule {rule} flagged in the last {len(shown)} runs, oldest first: {rates}"
    )

"""The page of a tuning: what was found for each rule, with its curves."""

from dataclasses import dataclass
from functools import cache
from pathlib import PurePath

from jinja2 import Template

from moderation.html.templates import template
from moderation.studies.tuning import tune_text
from moderation.studies.tuning.plots import Panel, panels
from moderation.studies.tuning.thresholds import Unreachable
from moderation.studies.tuning.tune import RuleTuning, Tuning


@dataclass(frozen=True, slots=True)
class RuleView:
    """One rule as the page shows it."""

    id: str
    labels: str
    area: str
    basis: str
    headline: str
    outcome: str
    missed: bool
    after: str
    rows: tuple[tuple[str, tune_text.Line], ...]
    notes: tuple[str, ...]
    doubts: tuple[str, ...]
    panels: tuple[Panel, ...]


def tuning_page(found: Tuning, day: str) -> str:
    """One self-contained HTML page; everything from files is escaped."""
    return _template().render(
        found=found,
        file=PurePath(found.labels.name).name,
        day=day,
        views=[_view(one, found) for one in found.rules],
        whole=_whole(found),
        label_remarks=tune_text.label_remarks(found),
    )


def _view(one: RuleTuning, found: Tuning) -> RuleView:
    area = one.area
    return RuleView(
        id=one.rule.id,
        labels=tune_text.counts(one.sample),
        area=f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})",
        basis=tune_text.basis(one.sample),
        headline=tune_text.headline(one),
        outcome=tune_text.outcome(one),
        missed=isinstance(one.found, Unreachable),
        after=tune_text.after(one),
        rows=tuple(tune_text.rows(one)),
        notes=one.remarks,
        doubts=one.doubts,
        panels=panels(one, found.target),
    )


def _whole(found: Tuning) -> list[tuple[str, str, str]]:
    if found.whole is None:
        return []
    named = (("as it is", found.whole.now), ("tuned", found.whole.tuned))
    return [
        (name, tune_text.ranged(point.precision), tune_text.ranged(point.recall)) for name, point in named if point is not None
    ]


@cache
def _template() -> Template:
    return template("tune.html.j2", {})

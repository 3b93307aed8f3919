"""The page of `moderate model compare --html`: what would change, thresholds for the other model, blurred sheets by rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from jinja2 import Template

from moderation.html import text
from moderation.html.previews import previews
from moderation.html.templates import template
from moderation.images.limits import ImageLimits
from moderation.policy.decision import ACTIONS
from moderation.sources import ObjectReader
from moderation.studies.model_comparison.comparison_result import Disagreement, ModelComparison
from moderation.studies.model_comparison.comparison_text import notes


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image that a rule decides differently."""

    found: Disagreement
    key: str
    thumbnail: str | None


def comparison_page(found: ModelComparison, reader: ObjectReader, limits: ImageLimits | None = None) -> str:
    """One self-contained HTML page. Images are read again for their thumbnails, in a process of its own."""
    shown = [(one.uri, one.etag, one.frame) for rule in found.rules for one in rule.disagreements]
    return render(found, previews(reader, shown, limits))


def render(found: ModelComparison, made: Mapping[tuple[str, int], str]) -> str:
    """The page from its parts; `made`: thumbnails as data URIs, by URI and frame. Everything from files is escaped. Pure.

    The page loads nothing: its Content-Security-Policy allows inline styles and data URIs only.
    """
    sheets = {
        rule.rule: [
            ImageView(one, text.key_of(found.sources, one.uri), made.get((one.uri, one.frame))) for one in rule.disagreements
        ]
        for rule in found.rules
    }
    return _template().render(found=found, sheets=sheets, notes=notes(found), names=[action.value for action in ACTIONS])


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


def _figure(value: float | None) -> str:
    return text.NONE if value is None else f"{value:.2f}"


@cache
def _template() -> Template:
    return template(
        "models.html.j2",
        {
            "duration": text.duration,
            "figure": _figure,
            "number": text.number,
            "percent": text.percent,
            "score": text.score,
            "share": _share,
            "threshold": text.threshold,
        },
    )

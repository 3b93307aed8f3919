"""The page of `moderate policy explain --html`: blurred images, with a bar per rule for its score beside its thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Template

from moderation.html import text
from moderation.html.templates import template
from moderation.html.thumbnails import thumbnails
from moderation.images.limits import ImageLimits
from moderation.policy.explanation import Explanation, RuleExplanation
from moderation.policy.schema import Mode, Policy
from moderation.sources import ObjectReader
from moderation.storage import Store

Named = Sequence[tuple[str, Explanation]]
"""Explanations, each with what the user calls the image"""


@dataclass(frozen=True, slots=True)
class Mark:
    """A threshold on a bar; `at` in percent of the bar."""

    name: str
    value: str
    at: str


@dataclass(frozen=True, slots=True)
class BarView:
    """One rule's score as a bar."""

    rule: RuleExplanation
    top: bool
    fill: str
    """the bar's filled part, in percent"""
    low: str
    high: str
    """the scores at both ends of the bar"""
    marks: tuple[Mark, ...]

    @property
    def words(self) -> str:
        """The bar for those who cannot see it."""
        marks = "".join(f", {mark.name} from {mark.value}" for mark in self.marks)
        return f"score {self.rule.score:.3f} on a scale from {self.low} to {self.high}{marks}"


@dataclass(frozen=True, slots=True)
class ImageView:
    """One image with its bars; without any if it cannot be read."""

    name: str
    found: Explanation
    thumbnail: str | None
    bars: tuple[BarView, ...]


def explanation_page(policy: Policy, model: str, fingerprint: str, named: Named, limits: ImageLimits | None = None) -> str:
    """One self-contained HTML page; reads the images again for their thumbnails."""
    return render(policy, model, fingerprint, named, pictures([found for _, found in named], limits or ImageLimits()))


def pictures(explanations: Sequence[Explanation], limits: ImageLimits) -> dict[str, str]:
    """Thumbnails as data URIs, by URI: of the frame that decided. Images that cannot be read are missing."""
    made: dict[str, str] = {}
    for found in explanations:
        if found.rules and found.uri not in made:
            reader = ObjectReader(folders=(Store(found.uri.rpartition("/")[0]),))
            wanted = (found.uri, found.etag, shown_frame(found))
            made |= {uri: data for (uri, _), data in thumbnails(reader, [wanted], limits).items()}
    return made


def shown_frame(found: Explanation) -> int:
    """The frame that gave the top rule its score; any rule's where none is live."""
    return (found.top or found.rules[0]).frame


def render(policy: Policy, model: str, fingerprint: str, named: Named, made: Mapping[str, str]) -> str:
    """The page from its parts; `made`: thumbnails by URI. Everything from files is escaped, and what would hide is shown.

    The page loads nothing: its Content-Security-Policy allows inline styles and data URIs only.
    """
    images = [
        ImageView(
            name=name,
            found=found,
            thumbnail=made.get(found.uri),
            bars=tuple(bar(rule, rule.rule == found.top_rule) for rule in found.rules),
        )
        for name, found in named
    ]
    off = [rule.id for rule in policy.rules if rule.mode is Mode.OFF]
    return _template().render(policy=policy, model=model, fingerprint=fingerprint, images=images, off=off)


def bar(rule: RuleExplanation, top: bool) -> BarView:
    """A rule's score as a bar. `top`: whether it decided."""
    thresholds = (("review", rule.review), ("block", rule.block))
    values = [rule.score, *(value for _, value in thresholds if value is not None)]
    low, high = 0.0, 1.0
    if rule.kind.facts.usual is not None:  # cosines use a small part of -1 to 1
        low, high = min(0.0, *values), min(1.0, 1.25 * max(0.2, *values))
    return BarView(
        rule=rule,
        top=top,
        fill=_percent(rule.score, low, high),
        low=text.threshold(round(low, 2)),
        high=text.threshold(round(high, 2)),
        marks=tuple(
            Mark(name, text.threshold(value), _percent(value, low, high)) for name, value in thresholds if value is not None
        ),
    )


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * (value - low) / (high - low):.2f}"


@cache
def _template() -> Template:
    filters = {"threshold": text.threshold}
    return template("explanation.html.j2", filters)

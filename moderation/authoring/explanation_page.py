"""The page of `moderate policy explain --html`: blurred images, with a bar per rule for its score beside its thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from jinja2 import Template

from moderation.errors import StorageError
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
class ExemplarView:
    """The picture of an exemplar that a score rests on."""

    what: str
    """what it is, in words"""
    data: str
    """a data URI"""


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
    exemplars: tuple[ExemplarView, ...] = ()
    """the nearest ones, of rules that compare images"""

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
    found, limits = [one for _, one in named], limits or ImageLimits()
    return render(policy, model, fingerprint, named, {**pictures(found, limits), **exemplar_pictures(policy, found, limits)})


def pictures(explanations: Sequence[Explanation], limits: ImageLimits) -> dict[str, str]:
    """Thumbnails as data URIs, by URI: of the frame that decided.

    Images that cannot be read, or are on a restricted hash list, are missing.
    """
    made: dict[str, str] = {}
    for found in explanations:
        if found.rules and not found.restricted and found.uri not in made:
            reader = ObjectReader(folders=(Store(found.uri.rpartition("/")[0]),))
            wanted = (found.uri, found.etag, shown_frame(found))
            made |= {uri: data for (uri, _), data in thumbnails(reader, [wanted], limits).items()}
    return made


def exemplar_pictures(policy: Policy, explanations: Sequence[Explanation], limits: ImageLimits) -> dict[str, str]:
    """Thumbnails of the exemplars that explanations name, as data URIs, by SHA-256. Those that cannot be read are missing."""
    rules = (rule for found in explanations for rule in found.rules)
    shown = dict.fromkeys(digest for rule in rules for digest in (rule.prompt_sha256, rule.lookalike_sha256))
    made = {}
    for digest in filter(None, shown):
        try:
            store, key = Store.locate(policy.assets.images[digest].location)
            found = store.head(key)
        except StorageError:
            continue
        for data in thumbnails(ObjectReader(folders=(store,)), [(found.uri, found.etag, 0)], limits).values():
            made[digest] = data
    return made


def shown_frame(found: Explanation) -> int:
    """The frame that gave the top rule its score; any rule's where none is live."""
    return (found.top or found.rules[0]).frame


def render(policy: Policy, model: str, fingerprint: str, named: Named, made: Mapping[str, str]) -> str:
    """The page from its parts. Everything from files is escaped, and what would hide is shown.

    `made`: thumbnails of images by URI, and of exemplars by SHA-256.

    The page loads nothing: its Content-Security-Policy allows inline styles and data URIs only.
    """
    images = [
        ImageView(
            name=name,
            found=found,
            thumbnail=made.get(found.uri),
            # Beside an image that nobody may see, nothing that looks like it is shown either.
            bars=tuple(bar(rule, rule.rule == found.top_rule, {} if found.restricted else made) for rule in found.rules),
        )
        for name, found in named
    ]
    off = [rule.id for rule in policy.rules if rule.mode is Mode.OFF]
    return _template().render(policy=policy, model=model, fingerprint=fingerprint, images=images, off=off)


def bar(rule: RuleExplanation, top: bool, made: Mapping[str, str] = MappingProxyType({})) -> BarView:
    """A rule's score as a bar.

    Args:
        rule: the rule.
        top: whether it decided.
        made: pictures of exemplars by SHA-256, as data URIs.
    """
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
        exemplars=tuple(
            ExemplarView(f"the {what} of {rule.rule}", made[digest])
            for what, digest in (
                (rule.kind.facts.closest, rule.prompt_sha256),
                (rule.kind.facts.compared, rule.lookalike_sha256),
            )
            if digest is not None and digest in made
        ),
    )


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * (value - low) / (high - low):.2f}"


@cache
def _template() -> Template:
    filters = {"threshold": text.threshold}
    return template("explanation.html.j2", filters)

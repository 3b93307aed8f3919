"""What the policy page shows of a draft's effect, as plain records. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup

from moderation.html.text import number, percent, score, threshold
from moderation.policy.schema import Rule
from moderation.report.charts import distribution
from moderation.results.aggregates import BINS, RuleAggregate
from moderation.studio.catalogue import Row
from moderation.studio.effect import (
    Actions,
    Limits,
    RuleEffect,
    TotalEffect,
    changed_images,
    histogram,
    nearest,
    rule_effect,
    total_effect,
)
from moderation.studio.policy_effect import Draft
from moderation.studio.population import Scores
from moderation.studio.rendering import address
from moderation.studio.tiles import Tile

SHEET = 24
"""Images of a kind on a contact sheet."""


@dataclass(frozen=True, slots=True)
class Slider:
    """A threshold that can be moved."""

    name: str
    """review | block"""
    value: float
    shown: str


@dataclass(frozen=True, slots=True)
class RuleView:
    """One rule of the draft."""

    rule: Rule
    chart: Markup
    low: float
    high: float
    """scores at both ends of the sliders"""
    step: float
    sliders: tuple[Slider, ...]
    numbers: Mapping[str, str]
    is_new: bool
    """whether the published policy has no such rule"""


@dataclass(frozen=True, slots=True)
class EffectView:
    """The whole draft."""

    key: str
    images: int
    published: str
    rules: tuple[RuleView, ...]
    totals: Mapping[str, str]
    gone: tuple[str, ...]
    """rules of the published policy that the draft does not score"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Images under a heading."""

    title: str
    tiles: tuple[Tile, ...]


def effect_view(draft: Draft) -> EffectView:
    """Every rule with its scores, its thresholds and what they change."""
    rules = tuple(_rule(draft, rule) for rule in draft.side.rules)
    own = {rule.id for rule in draft.side.rules}
    return EffectView(
        key=draft.key,
        images=draft.side.images,
        published=f"{draft.published.policy} {draft.published.version}",
        rules=rules,
        totals=total_numbers(draft, total_effect(draft.side.action, draft.before.action)),
        gone=tuple(rule.id for rule in draft.before.rules if rule.id not in own),
    )


def moved(draft: Draft, rule: str, limits: Limits) -> dict[str, Any]:
    """The numbers of a rule and of all images with other thresholds of that rule."""
    own, action = draft.side.with_limits(rule, limits)
    effect = rule_effect(own, draft.before.of(rule))
    return {
        "rule": rule_numbers(draft, effect),
        "totals": total_numbers(draft, total_effect(action, draft.before.action)),
        "shown": {name: threshold(value) for name, value in asdict(limits).items()},
    }


def rule_numbers(draft: Draft, effect: RuleEffect) -> dict[str, str]:
    """What a rule asks for, in words."""
    images = draft.side.images
    return {
        "review": number(effect.review),
        "review_rate": percent(effect.review, images),
        "block": number(effect.block),
        "block_rate": percent(effect.block, images),
        "enters": number(effect.enters),
        "leaves": number(effect.leaves),
    }


def total_numbers(draft: Draft, effect: TotalEffect) -> dict[str, str]:
    """What becomes of all images, in words; per day where the runs span several."""
    days = draft.population.days
    return {
        "review": number(effect.review),
        "block": number(effect.block),
        "review_change": _change(effect.review - effect.was_review),
        "block_change": _change(effect.block - effect.was_block),
        "review_day": f"{effect.review / days:,.0f} a day" if days > 1 else "",
        "block_day": f"{effect.block / days:,.0f} a day" if days > 1 else "",
        "changed": number(effect.changed),
    }


def sheets(draft: Draft, rule: str, limits: Limits) -> list[tuple[str, list[tuple[str, float, str]]]]:
    """Images that enter, that leave, and that lie nearest to a threshold: heading, then URI, score and action of each."""
    scores: Scores = draft.side.scores[rule]
    own = limits.actions(scores)
    before: Actions | None = draft.before.of(rule)
    enters, leaves = changed_images(scores, own, before, limits, SHEET)
    found = (
        ("Enters: flagged by this draft and not by the published policy", enters),
        ("Leaves: flagged by the published policy and not by this draft", leaves),
        ("Nearest to a threshold", nearest(scores, None, limits, SHEET)),
    )
    names = ("allow", "review", "block")
    return [
        (
            title,
            [
                (uri, float(scores[image]), names[own[image]])
                for uri, image in zip(draft.population.place(images), images, strict=True)
            ],
        )
        for title, images in found
        if len(images)
    ]


def sheet(title: str, images: Iterable[tuple[str, float, str]], rows: Mapping[str, Row], names: Mapping[str, str]) -> Sheet:
    """A contact sheet. `rows`: newest decisions by URI, which say which frame is shown; `names`: what images are called."""
    tiles = []
    for uri, value, action in images:
        row = rows.get(uri)
        if row is None:  # on a restricted hash list
            continue
        tiles.append(
            Tile(
                uri=uri,
                key=names[uri],
                link=address("/image", uri=uri),
                picture=address("/pictures", uri=uri, frame=row.frame or None),
                number=score(value),
                action=action,
                label="" if action == "allow" else action,
                caption=f"decided: {row.action}",
                sealed=row.action == "block",
            )
        )
    return Sheet(title, tuple(tiles))


def _rule(draft: Draft, rule: Rule) -> RuleView:
    scores = draft.side.scores[rule.id]
    own = draft.side.of(rule.id)
    if own is None:
        raise LookupError(rule.id)
    low, high = rule.score.facts.shown
    aggregate = RuleAggregate(
        low=low,
        high=high,
        histogram=histogram(scores, low, high, BINS),
        minimum=float(scores.min()) if len(scores) else low,
        maximum=float(scores.max()) if len(scores) else high,
        examples=(),
    )
    drawn = distribution(rule, aggregate)
    before = draft.before.of(rule.id)
    return RuleView(
        rule=rule,
        chart=drawn.chart,
        low=round(drawn.low, 6),
        high=round(drawn.high, 6),
        step=0.005 if rule.score.facts.usual is None else 0.001,
        sliders=_sliders((("review", rule.review), ("block", rule.block))),
        numbers=rule_numbers(draft, rule_effect(own, before)),
        is_new=before is None,
    )


def _sliders(values: Sequence[tuple[str, float | None]]) -> tuple[Slider, ...]:
    return tuple(Slider(name, value, threshold(value)) for name, value in values if value is not None)


def _change(by: int) -> str:
    return f"{'+' if by > 0 else '−' if by < 0 else '±'}{abs(by):,}"

"""What the page shows of each rule, and the audit sample, as plain records. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from markupsafe import Markup

from moderation.html.text import key_of, number, percent, score, threshold
from moderation.policy.schema import Mode, Policy, Rule, Severity
from moderation.policy.score_kind import ScoreKind
from moderation.report.changes import Change, count_change, flags_of, last_run, rate_change
from moderation.report.charts import histogram
from moderation.report.sheets import sheets
from moderation.report.trend import points, trend
from moderation.results.aggregates import Aggregates, RuleAggregate
from moderation.results.example_images import Example
from moderation.results.history import EarlierRun, in_numbers
from moderation.results.manifest import Manifest

Thumbnails = Mapping[tuple[str, int], str]
"""JPEGs as data URIs, by URI and frame"""
_SEVERITIES = tuple(Severity)
PROMPTS = 5
"""Prompts listed of a rule."""


@dataclass(frozen=True, slots=True)
class ImageView:
    """One image of a contact sheet."""

    key: str
    uri: str
    frame: int
    thumbnail: str | None
    score: str
    caption: str
    """caption: the prompt, the distance to a threshold, or the closest rule"""
    action: str = ""
    label: str = ""
    """the action in words"""
    alike: int = 0
    """further images that look the same"""
    sealed: bool = False
    """shown clearly on a click only, not on pointing at it"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Images under a heading."""

    title: str
    images: tuple[ImageView, ...]


@dataclass(frozen=True, slots=True)
class PromptView:
    """A prompt with the flagged images that are closest to it; `share` of the most frequent one, in percent."""

    text: str
    count: str
    share: str


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule with what it found."""

    rule: Rule
    flagged: int
    """images it flagged, or would have flagged if it is a shadow rule"""
    rate: str
    changes: tuple[Change, ...]
    head: str = ""
    """of a rule that is scored by a head: what that was learned from, in words"""
    range: str = ""
    chart: Markup | None = None
    trend: Markup | None = None
    prompts: tuple[PromptView, ...] = ()
    sheets: tuple[Sheet, ...] = ()

    @property
    def verb(self) -> str:
        """What the rule did to images at or above a threshold."""
        return "would have flagged" if self.rule.mode is Mode.SHADOW else "flagged"


@dataclass(frozen=True, slots=True)
class Audit:
    """The random sample of images that no live rule flagged."""

    images: tuple[ImageView, ...]
    clean: int
    """how many such images there are"""

    @property
    def bound(self) -> str:
        """The rule of three: if none of the sample is wrong, fewer than this share of all is, 95 times in 100."""
        return f"{300 / len(self.images):.0f}%" if len(self.images) > 3 else ""


class RuleViews:
    """Makes the views of one run."""

    def __init__(
        self, manifest: Manifest, policy: Policy, found: Aggregates, thumbnails: Thumbnails, earlier: Sequence[EarlierRun]
    ) -> None:
        self._policy, self._found, self._thumbnails, self._earlier = policy, found, thumbnails, earlier
        self._sources, self._now = manifest.sources, in_numbers(manifest)

    @cached_property
    def rules(self) -> tuple[RuleView, ...]:
        """Every rule of the policy: those that flagged most first, of equals the severest; those that are off last."""
        found = [self._rule(rule) for rule in self._policy.rules]
        return tuple(
            sorted(
                found, key=lambda v: (v.rule.mode is Mode.OFF, not v.flagged, -_SEVERITIES.index(v.rule.severity), -v.flagged)
            )
        )

    @cached_property
    def audit(self) -> Audit:
        """The images that were drawn."""
        images = tuple(
            ImageView(
                key=key_of(self._sources, e.uri),
                uri=e.uri,
                frame=e.frame,
                thumbnail=self._thumbnails.get((e.uri, e.frame)),
                score=score(e.score) if e.score is not None else "",
                caption=f"closest rule: {e.rule}" if e.rule else "no rule is live",
                sealed=e.critical,
            )
            for e in self._found.clean
        )
        return Audit(images, self._now.allowed)

    def _rule(self, rule: Rule) -> RuleView:
        now = self._now
        flagged = now.flagged.get(rule.id, 0)
        head = self._policy.assets.heads.get(rule.id)
        about = "" if head is None else f"A probability by the head {head.name}, {head.about}."
        view = RuleView(rule, flagged, percent(flagged, now.scored), self._changes(rule, flagged), about)
        found = self._found.rules.get(rule.id)
        if found is None:
            return view
        return replace(
            view,
            range=f"{score(found.minimum)} to {score(found.maximum)}",
            chart=histogram(rule, found),
            trend=trend(rule.id, points(rule.id, now, self._earlier)),
            prompts=() if head is not None else _prompts(found),
            sheets=self._sheets(rule, found),
        )

    def _changes(self, rule: Rule, flagged: int) -> tuple[Change, ...]:
        before = last_run(self._earlier)
        flags = flags_of(before, rule.id, self._now.policy_hash) if before and before.scored else None
        if before is None or flags is None or rule.mode is Mode.OFF:
            return ()
        rate = rate_change((flagged, self._now.scored), (flags, before.scored))
        return (count_change(flagged, flags), rate) if rate else (count_change(flagged, flags),)

    def _sheets(self, rule: Rule, found: RuleAggregate) -> tuple[Sheet, ...]:
        shown = sheets(found)
        made = (
            Sheet(
                _heading(rule, shown.flagged, self._now.flagged.get(rule.id, 0)),
                tuple(self._image(e, rule, _why(e, rule)) for e in shown.flagged),
            ),
            Sheet("Highest scores; none flagged", tuple(self._image(e, rule, _why(e, rule)) for e in shown.highest)),
            Sheet("Near a threshold, closest first", tuple(self._image(e, rule, _distance(e, rule)) for e in shown.near)),
        )
        return tuple(sheet for sheet in made if sheet.images)

    def _image(self, example: Example, rule: Rule, caption: str) -> ImageView:
        return ImageView(
            key=key_of(self._sources, example.uri),
            uri=example.uri,
            frame=example.frame,
            thumbnail=self._thumbnails.get((example.uri, example.frame)),
            score=score(example.score),
            caption=caption,
            action=example.action,
            label=f"would {example.action}" if rule.mode is Mode.SHADOW else example.action,
            alike=example.copies - 1,
            sealed=example.critical,
        )


def _heading(rule: Rule, images: Sequence[Example], total: int) -> str:
    """Flagged: 12 of 147, spread over the range of scores, highest first; 24 more look like them."""
    flagged = "Would have been flagged" if rule.mode is Mode.SHADOW else "Flagged"
    shown, alike = len(images), sum(e.copies for e in images) - len(images)
    if shown >= total:
        return f"{flagged}, highest scores first"
    chosen = "" if shown + alike >= total else " spread over the range of scores,"
    more = f"; {number(alike)} more {'looks' if alike == 1 else 'look'} like them" if alike else ""
    return f"{flagged}: {number(shown)} of {number(total)},{chosen} highest scores first{more}"


def _why(example: Example, rule: Rule) -> str:
    """The closest prompt; a head has none."""
    return _distance(example, rule) if rule.score is ScoreKind.HEAD else example.top_prompt


def _distance(example: Example, rule: Rule) -> str:
    """0.012 below review 0.60."""
    names = {value: name for name, value in (("review", rule.review), ("block", rule.block)) if value is not None}
    value = min(names, key=lambda t: abs(example.score - t))
    side = "above" if example.score >= value else "below"
    return f"{abs(example.score - value):.3f} {side} {names[value]} {threshold(value)}"


def _prompts(found: RuleAggregate) -> tuple[PromptView, ...]:
    most = sorted(found.prompts.items(), key=lambda item: (-item[1], item[0]))[:PROMPTS]
    return tuple(PromptView(prompt, number(count), f"{100 * count / most[0][1]:.1f}") for prompt, count in most)

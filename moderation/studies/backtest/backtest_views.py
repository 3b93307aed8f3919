"""What the page of a backtest shows, as plain records: rates and texts are worked out here, not in the page. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from moderation.html.text import NONE, number, percent, score, threshold
from moderation.html.thumbnails import Wanted
from moderation.policy.comparison import Change, compare
from moderation.policy.schema import Mode, Policy, Rule, Severity
from moderation.studies.backtest.backtest_result import Backtest, BeforeAfter, Changed, RuleChange

ACTIONS = ("allow", "review", "block")
"""The mildest first."""
MOST = 600
"""Thumbnails of a page."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Images by action before and after; `kind`: same, stricter or milder."""

    after: str
    count: int
    share: str
    kind: str


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """Where the images went that one action was decided for."""

    before: str
    cells: tuple[Cell, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the overview."""

    label: str
    value: str
    note: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule, with what it is in the new policy and what it was in the old; None where that does not have it."""

    id: str
    rule: Rule | None
    found: RuleChange
    old: Rule | None = None

    def limit(self, action: str) -> str:
        """The threshold of `review` or `block`: 0.60 → 0.55 where it was another one."""
        before, after = (None if rule is None else getattr(rule, action) for rule in (self.old, self.rule))
        if self.old is None or self.rule is None or before == after:
            return threshold(before if self.rule is None else after)
        return f"{threshold(before)} → {threshold(after)}"

    @property
    def note(self) -> str:
        """Why it flags nothing now, if it may not."""
        if self.rule is None:
            return "no longer in the policy"
        return {Mode.SHADOW: f"shadow: would flag {number(self.found.would)}", Mode.OFF: "off"}.get(self.rule.mode, "")


@dataclass(frozen=True, slots=True)
class ImageTile:
    """One image of a sheet."""

    key: str
    uri: str
    frame: int
    thumbnail: str | None
    missing: str
    """why there is no thumbnail"""
    before: str
    after: str
    score: str
    caption: str
    """the rule, and the score against its threshold"""
    was: str
    """score and thresholds of the same rule before; empty where nothing is known"""
    sealed: bool
    """shown clearly on a click only: a critical rule decides, or one that the new policy does not know"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Images under a heading."""

    title: str
    note: str
    images: tuple[ImageTile, ...]


def matrix(found: Backtest) -> tuple[MatrixRow, ...]:
    """Transitions, a row for each action before."""
    rows = []
    for i, before in enumerate(ACTIONS):
        counts = [found.transitions.get((before, after), 0) for after in ACTIONS]
        kinds = ["same" if i == j else "stricter" if j > i else "milder" for j in range(len(ACTIONS))]
        cells = (Cell(a, n, percent(n, found.images), k) for a, n, k in zip(ACTIONS, counts, kinds, strict=True))
        rows.append(MatrixRow(before, tuple(cells), sum(counts)))
    return tuple(rows)


def tiles(found: Backtest) -> tuple[Tile, ...]:
    """The numbers of the overview."""
    total, images = found.total, found.images
    milder = sum(n for (b, a), n in found.transitions.items() if ACTIONS.index(a) < ACTIONS.index(b))
    shown = [
        Tile("Different decision", number(total.changed), f"{percent(total.changed, images)} of {number(images)} images"),
        Tile("Newly blocked", number(found.new_blocks), f"{percent(found.new_blocks, images)} of images", "block"),
        Tile("Less strict", number(milder), f"{percent(milder, images)} of images"),
        Tile("Blocked in total", _change(total.before.block, total.after.block), _rates(total, "block"), "block"),
        Tile("To review in total", _change(total.before.review, total.after.review), _parts(found), "review"),
        Tile("Not scored", number(found.errors), f"{percent(found.errors, images)} of images, decided by unreadable"),
    ]
    if days := found.days_covered:
        over = f"on average over {number(days)} days" if days > 1 else "all images are of one day"
        shown += [
            Tile("Blocks per day", _change(total.before.block / days, total.after.block / days), over, "block"),
            Tile("Reviews per day", _change(total.before.review / days, total.after.review / days), over, "review"),
        ]
    return tuple(shown)


def rule_rows(found: Backtest, policy: Policy, old: Policy | None = None) -> tuple[RuleRow, ...]:
    """In the order of the new policy, followed by rules that only the old one has."""
    known = {rule.id: rule for rule in policy.rules}
    before = {rule.id: rule for rule in old.rules} if old else {}
    order = [rule for rule in known if rule in found.rules] + sorted(found.rules.keys() - known.keys())
    return tuple(RuleRow(rule, known.get(rule), found.rules[rule], before.get(rule)) for rule in order)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One change in the policy, in words."""

    rule: str
    """empty: the policy as a whole"""
    what: str
    old: str
    new: str
    note: str


def policy_changes(old: Policy, new: Policy) -> tuple[PolicyChange, ...]:
    """What changed in meaning from one policy to the other."""
    return tuple(
        PolicyChange(change.rule or "", _what(change), _value(change.old), _value(change.new), change.note)
        for change in compare(old, new)
    )


def _what(change: Change) -> str:
    if change.key == "id":
        return f"rule {change.kind}"
    return "lookalikes" if change.rule and change.key == "contrast" else change.key


def _value(value: str | float | None) -> str:
    return NONE if value is None else value if isinstance(value, str) else threshold(value)


class Sheets:
    """Makes the sheets of a page."""

    def __init__(
        self,
        found: Backtest,
        policy: Policy,
        thumbnails: Mapping[tuple[str, int], str],
        tried: Iterable[Wanted],
        old: Policy | None = None,
    ) -> None:
        self._found, self._thumbnails = found, thumbnails
        self._tried = {(uri, frame) for uri, _, frame in tried}
        self._rules = {rule.id: rule for rule in policy.rules}
        self._old = None if old is None else {rule.id: rule for rule in old.rules}
        self.folder = common_folder(image.uri for image in _shown(found))

    def changed(self) -> tuple[Sheet, ...]:
        """Images with a different decision, a sheet for each transition, the largest step towards blocking first."""
        pairs = [(before, after) for before in ACTIONS for after in ACTIONS if before != after]
        pairs.sort(key=lambda pair: ACTIONS.index(pair[0]) - ACTIONS.index(pair[1]))
        made = []
        for before, after in pairs:
            images = [image for image in self._found.examples if (image.before, image.after) == (before, after)]
            count = self._found.transitions.get((before, after), 0)
            if count:
                message = f"{number(count)} image{'' if count == 1 else 's'}"
                more = "" if len(images) >= count else f", {number(len(images))} of them shown"
                made.append(Sheet(f"{before} → {after}", message + more, self._tiles(images)))
        return tuple(made)

    def shadow(self) -> tuple[Sheet, ...]:
        """Images that shadow rules would flag, a sheet for each rule that would."""
        made = []
        for rule, found in self._found.rules.items():
            if found.would:
                message = f"would flag {number(found.would)} image{'' if found.would == 1 else 's'}"
                more = (
                    ""
                    if len(found.would_flag) >= found.would
                    else f", the {number(len(found.would_flag))} highest scores shown"
                )
                made.append(Sheet(rule, message + more, self._tiles(found.would_flag)))
        return tuple(made)

    def nearest(self, rule: str) -> tuple[ImageTile, ...]:
        """Images whose scores are nearest to the new thresholds of a rule."""
        return self._tiles(self._found.rules[rule].nearest)

    def _tiles(self, images: Iterable[Changed]) -> tuple[ImageTile, ...]:
        return tuple(self._tile(image) for image in images)

    def _tile(self, image: Changed) -> ImageTile:
        rule = self._rules.get(image.rule or "")
        return ImageTile(
            key=image.uri[len(self.folder) :],
            uri=image.uri,
            frame=image.frame,
            thumbnail=self._thumbnails.get((image.uri, image.frame)),
            missing=self._missing(image),
            before=image.before,
            after=image.after,
            score=_scores(image),
            caption=_caption(image, rule),
            was=self._was(image),
            sealed=rule is None or rule.severity is Severity.CRITICAL,
        )

    def _was(self, image: Changed) -> str:
        """Before: 0.312, review from 0.60, block from 0.90."""
        if image.rule is None or image.before == image.after:
            return ""
        said = [] if image.score_before is None else [score(image.score_before)]
        if self._old is not None:
            rule = self._old.get(image.rule)
            named = () if rule is None else (("review", rule.review), ("block", rule.block))
            said += [f"{name} from {threshold(value)}" for name, value in named if value is not None]
            said += [] if rule else ["not in the old policy"]
        return f"before: {', '.join(said)}" if said else ""

    def _missing(self, image: Changed) -> str:
        if image.rule is None:
            return "could not be scored"
        return "no longer readable" if (image.uri, image.frame) in self._tried else "not fetched"


def wanted(found: Backtest) -> list[Wanted]:
    """Up to `MOST` images: those that change, those that shadow rules would flag, and the nearest of each rule, in turns.

    Those without scores could not be read then, and are not tried again.
    """
    nearest = chain.from_iterable(zip_longest(*(rule.nearest for rule in found.rules.values())))
    shadow = chain.from_iterable(rule.would_flag for rule in found.rules.values())
    ranked = (image for image in chain(found.examples, shadow, nearest) if image is not None and image.rule is not None)
    return list(dict.fromkeys((image.uri, image.etag, image.frame) for image in ranked))[:MOST]


def common_folder(uris: Iterable[str]) -> str:
    """What all of them begin with, up to and with a slash; nothing if that is less than a bucket."""
    folders = [uri.rpartition("/")[0].split("/") for uri in uris]
    if not folders:
        return ""
    shared = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared) + "/" if len(shared) > 3 or (len(shared) == 3 and shared[2]) else ""


def _shown(found: Backtest) -> Iterable[Changed]:
    yield from found.examples
    for rule in found.rules.values():
        yield from rule.nearest
        yield from rule.would_flag


def _scores(image: Changed) -> str:
    """0.312 → 0.912, or the score alone where it is the same, or not known before."""
    after = "" if image.score is None else score(image.score)
    before = after if image.score_before is None else score(image.score_before)
    return after if before == after else f"{before} → {after or NONE}"


def _caption(image: Changed, rule: Rule | None) -> str:
    """firearms: 0.012 below review 0.60."""
    if image.rule is None:
        return "could not be scored: `unreadable` decides"
    if image.score is None or image.threshold is None:
        return f"{image.rule}: not in the new policy"
    side = "above" if image.score >= image.threshold else "below"
    named = () if rule is None else (("review", rule.review), ("block", rule.block))
    # Scores are compared in float32: a threshold may come as 0.6000000238.
    names = {np.float32(value): (name, value) for name, value in named if value is not None}
    name, value = names.get(np.float32(image.threshold), ("threshold", image.threshold))
    distance = f"{abs(image.score - image.threshold):.3f}"
    return f"{image.rule}: {f'{distance} {side}' if float(distance) else 'at'} {name} {threshold(value)}"


def _parts(found: Backtest) -> str:
    """19 by rules, 12 unreadable → 24 by rules, 12 unreadable."""
    before, after = found.work
    return f"{before.parts} → {after.parts}"


def _change(before: float, after: float) -> str:
    return f"{rounded(before)} → {rounded(after)}"


def rounded(value: float) -> str:
    """An average in words: 12,345; 12.3; 0.12."""
    if value == int(value) or value >= 100:
        return number(round(value))
    return f"{value:.{1 if value >= 10 else 2}f}"


def _rates(total: BeforeAfter, action: str) -> str:
    before, after = getattr(total.before, action), getattr(total.after, action)
    return f"{percent(before, total.before.images)} → {percent(after, total.after.images)} of images"

"""What a backtest finds, as it is shown and written. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from moderation.results.archive import ModelRuns
from moderation.results.human_work import Work
from moderation.studies.backtest.labelled import Labelled

OTHER = "(other)"
"""Stands for the prefixes beyond the largest ones."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An image with a different decision, or close to a new threshold, with what a person needs to judge it."""

    uri: str
    etag: str
    frame: int
    """the frame that gave the rule its score, counted from 0"""
    before: str
    """allow | review | block"""
    after: str
    rule: str | None
    """the rule that decides: of the new policy, or of the old one where the new allows; None for an image without scores"""
    score: float | None
    """of that rule under the new policy; None where the new policy does not have it"""
    threshold: float | None
    """of the new policy's rule, the one that is closest to the score"""
    score_before: float | None = None
    """of that rule before; None where it was not scored, or another rule decided when the run was published"""


@dataclass(frozen=True, slots=True)
class Actions:
    """Images by what is decided about them."""

    allow: int = 0
    review: int = 0
    block: int = 0

    @property
    def images(self) -> int:
        """All of them."""
        return self.allow + self.review + self.block

    def __add__(self, other: "Actions") -> "Actions":
        return Actions(self.allow + other.allow, self.review + other.review, self.block + other.block)


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """The same images under both policies."""

    before: Actions = Actions()
    after: Actions = Actions()
    changed: int = 0
    """images whose action differs"""

    def __add__(self, other: "BeforeAfter") -> "BeforeAfter":
        return BeforeAfter(self.before + other.before, self.after + other.after, self.changed + other.changed)


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A rule before and after. A rule that one policy does not have, or does not let act, flags nothing there."""

    before: int
    """images it flagged as a live rule"""
    after: int
    gained: int
    """images it flags now and did not before"""
    lost: int
    nearest: tuple[Changed, ...] = ()
    """images whose scores are nearest to a threshold of the new policy's rule, the nearest first"""
    would: int = 0
    """images that the new policy's rule would flag were it live: it is a shadow rule, and acts on none"""
    would_flag: tuple[Changed, ...] = ()
    """some of these, those with the highest scores first; `after` is what the rule would do"""


@dataclass(frozen=True)
class Backtest:
    """Everything a backtest finds, but for the list of changed images, which is written to Parquet."""

    against: str
    """`published`, or the file of the old policy"""
    old: str
    """the old policy in words: name, version and hash; of published decisions, those of all policies that made them"""
    new: str
    archive: ModelRuns
    left_out: tuple[ModelRuns, ...]
    """runs of other models, whose images are not covered"""
    scored: int
    """images re-decided from embeddings"""
    errors: int
    """images that could not be scored: both policies' `unreadable` decides"""
    transitions: Mapping[tuple[str, str], int]
    """images by action before and after, all nine pairs"""
    rules: Mapping[str, RuleChange]
    prefixes: Mapping[str, BeforeAfter]
    """by folder, the largest first, `OTHER` last"""
    days: Mapping[str, BeforeAfter]
    """by the day the image was last modified, UTC, as 2026-11-21"""
    examples: tuple[Changed, ...]
    """changed images, those whose action changed most and whose score is nearest to a threshold first"""
    first_day: str | None = None
    last_day: str | None = None
    seconds: float = 0.0
    total: BeforeAfter = field(default_factory=BeforeAfter)
    unreadable: BeforeAfter = field(default_factory=BeforeAfter)
    """of `total`, the images that could not be scored: `unreadable` of the policies decides about them"""
    where: str | None = None
    """the condition that chose the images, in SQL"""
    not_chosen: int = 0
    """images that it leaves out"""
    runs_left_out: int = 0
    """runs of the same model that began too early"""
    images_left_out: int = 0
    """images that these scored; one that several runs scored counts several times, whether or not a later run did too"""
    labelled: Labelled | None = None
    """what labels say about both sides; None if none were given"""

    @property
    def images(self) -> int:
        """All images that both policies decide about."""
        return self.scored + self.errors

    @property
    def new_blocks(self) -> int:
        """Images that are blocked and were not."""
        return sum(count for (before, after), count in self.transitions.items() if after == "block" and before != "block")

    @property
    def new_reviews(self) -> int:
        """Images that a person must review now but not before."""
        return sum(count for (before, after), count in self.transitions.items() if after == "review" and before != "review")

    @property
    def work(self) -> tuple[Work, Work]:
        """What was left to people, and what would be."""
        before, after = (
            Work(whole.review - unreadable.review, unreadable.review)
            for whole, unreadable in (
                (self.total.before, self.unreadable.before),
                (self.total.after, self.unreadable.after),
            )
        )
        return before, after

    @property
    def days_covered(self) -> int:
        """Days from the first to the last one on which an image was last modified, these included."""
        if self.first_day is None or self.last_day is None:
            return 0
        return (date.fromisoformat(self.last_day) - date.fromisoformat(self.first_day)).days + 1

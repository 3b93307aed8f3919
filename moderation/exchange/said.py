"""What a file of reviews says, before it is known whether the results know its images and rules. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from moderation.common.safe_text import visible
from moderation.labels.label_file import SPELLINGS, Remark
from moderation.reviews.review import ReviewAction, Selection, Source, Verdict

WHOLE_IMAGE = "image"
"""In the place of a rule: the review is about the whole image. So are `any` and an empty cell."""
_WHOLE = ("", WHOLE_IMAGE, "any")

_VERDICTS: Mapping[str, Verdict] = {
    **{word: Verdict.VIOLATES if truth else Verdict.FINE for word, truth in SPELLINGS.items() if truth is not None},
    **{verdict.value: verdict for verdict in Verdict},
    "cannot see": Verdict.CANNOT_SEE,
    "can't see": Verdict.CANNOT_SEE,
}
_HEX = frozenset("0123456789abcdef")
_IMPLIED: Mapping[ReviewAction, Verdict] = {
    ReviewAction.ALLOW: Verdict.FINE,
    ReviewAction.BLOCK: Verdict.VIOLATES,
    ReviewAction.REVIEW: Verdict.UNSURE,
    ReviewAction.ESCALATE: Verdict.UNSURE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One judgement in a file."""

    line: int
    """of a CSV file its line, else the number of the task or sample, from 1"""
    uri: str
    sha256: str | None = None
    rule: str | None = None
    """None: the whole image"""
    verdict: Verdict
    action: ReviewAction | None = None
    """None: the file names none"""
    reason: str | None = None
    note: str | None = None
    reviewer: str | None = None
    """None: the file names nobody"""
    opened_at: datetime | None = None
    decided_at: datetime | None = None
    queue: str | None = None
    selection: Selection | None = None
    weight: float | None = None
    run_id: str | None = None
    appeal_id: str | None = None
    blind: bool = False


@dataclass(frozen=True, slots=True)
class ReviewFile:
    """What a file says, and what in it cannot be used."""

    name: str
    source: Source
    unit: str
    """what `line` counts: line, task or sample"""
    rows: int
    """whatever became of them"""
    said: tuple[Said, ...]
    open: int
    """rows that nobody has answered yet"""
    remarks: tuple[Remark, ...]


class Troubles:
    """Collects what is wrong with rows, each wording once with the numbers of its rows."""

    def __init__(self) -> None:
        self._rows: dict[str, list[int]] = {}

    def add(self, wording: str, row: int) -> None:
        """Note a row that is left out."""
        self._rows.setdefault(wording, []).append(row)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """All of them, in the order in which they came up."""
        return tuple(Remark(wording, tuple(rows), "left out") for wording, rows in self._rows.items())


def verdict_of(word: str, action: ReviewAction | None) -> Verdict | None:
    """The verdict that a word stands for, or that an action implies where there is no word; None if there is neither.

    Raises:
        ValueError: the word is not known; the text says which are.
    """
    said = word.strip().lower()
    if not said:
        return None if action is None else _IMPLIED[action]
    if said not in _VERDICTS:
        raise ValueError(f"the verdict {short(word)} is not known: write {', '.join(Verdict)}, or true or false")
    return _VERDICTS[said]


def action_of(word: str) -> ReviewAction | None:
    """The action that a word names; None for an empty one. Raises `ValueError`."""
    said = word.strip().lower()
    if not said:
        return None
    try:
        return ReviewAction(said)
    except ValueError:
        raise ValueError(f"the action {short(word)} is not known: write {', '.join(ReviewAction)}, or nothing") from None


def rule_of(word: str) -> str | None:
    """The rule that a cell names; None for the whole image."""
    return None if word.strip().lower() in _WHOLE else word.strip()


def moment_of(text: str, what: str = "decided_at") -> datetime | None:
    """A time in ISO 8601, UTC if it names no zone; None for an empty text. Raises `ValueError`."""
    said = text.strip()
    if not said:
        return None
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        raise ValueError(f"`{what}` {short(text)} is not a time: write it as 2026-11-21T15:30:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def hash_of(text: str) -> str | None:
    """A SHA-256 in hex; None for an empty text. Raises `ValueError`."""
    said = text.strip().lower()
    if said and (len(said) != 64 or not _HEX.issuperset(said)):
        raise ValueError(f"`sha256` {short(text)} is not 64 hex digits: leave it as it was exported, or empty")
    return said or None


def selection_of(text: str) -> Selection | None:
    """Why an image was shown; None for an empty text. Raises `ValueError`."""
    said = text.strip().lower()
    try:
        return Selection(said) if said else None
    except ValueError:
        raise ValueError(f"`selection` {short(text)} is not known: leave it as it was exported") from None


def weight_of(value: object) -> float | None:
    """How many images one stands for; None for None. Raises `ValueError`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        raise ValueError(f"the weight {short(str(value))} is not a number of at least 1: leave it as it was exported")
    return float(value)


def short(text: str) -> str:
    """A text in quotes, of a long one the start."""
    shown = visible(text)
    return repr(shown if len(shown) <= 40 else f"{shown[:39]}…")

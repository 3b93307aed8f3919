"""Which images the gallery shows, in what order: from the address of a page to SQL with parameters. Pure.

Nothing that a client sends becomes a part of the SQL: values are parameters, and names come from the lists here.
"""

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_TEXT = 2048
"""Characters of a prefix or a name."""


class Sort(StrEnum):
    """Orders of the gallery. Each is made total by the URI."""

    NEWEST = "newest"
    HIGHEST = "highest"
    LOWEST = "lowest"
    NEAREST = "nearest"
    NAME = "name"


WORDS = {
    Sort.NEWEST: "newest decisions",
    Sort.HIGHEST: "highest scores",
    Sort.LOWEST: "lowest scores",
    Sort.NEAREST: "nearest to a threshold",
    Sort.NAME: "names",
}


def _blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


Text = Annotated[Annotated[str, Field(max_length=MOST_TEXT)] | None, BeforeValidator(_blank)]
Score = Annotated[Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None, BeforeValidator(_blank)]
Decision = Annotated[Literal["allow", "review", "block", "error", "flagged"] | None, BeforeValidator(_blank)]
Day = Annotated[date | None, BeforeValidator(_blank)]


class Filter(BaseModel):
    """What was chosen; None: everything. Unknown names and values that make no sense are errors (`ValidationError`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Text = None
    """rules that flag the image, or, with scores given, whose scores lie between these"""
    action: Decision = None
    low: Score = None
    high: Score = None
    prefix: Text = None
    """how the URI begins"""
    since: Day = None
    until: Day = None
    error: Text = None
    sort: Annotated[Sort, BeforeValidator(lambda value: value or Sort.NEWEST)] = Sort.NEWEST

    @property
    def by_rule(self) -> bool:
        """Whether one rule's scores are asked for, and not the top rule's."""
        return self.rule is not None

    @property
    def query(self) -> dict[str, str]:
        """As the address of a page says it."""
        found = {name: value for name, value in self.model_dump(mode="json").items() if value is not None}
        if self.sort is Sort.NEWEST:
            found.pop("sort")
        return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in found.items()}


Condition = tuple[str, tuple[Any, ...]]
"""SQL with ? in it, and what stands for them"""


def conditions(chosen: Filter) -> list[Condition]:
    """All of which must hold, over the columns of `images`, and `score`, `threshold` and `acts` of the rule asked for."""
    found: list[Condition] = []
    if chosen.action == "error":
        found.append(("status = 'error'", ()))
    elif chosen.action == "flagged":
        found.append(("status = 'scored' AND action <> 'allow'", ()))
    elif chosen.action is not None:
        found.append(("status = 'scored' AND action = ?", (chosen.action,)))
    if chosen.error is not None:
        found.append(("error_code = ?", (chosen.error,)))
    if chosen.prefix is not None:
        found.append(("starts_with(uri, ?)", (chosen.prefix,)))
    if chosen.low is not None:
        found.append(("score >= ?::FLOAT", (chosen.low,)))
    if chosen.high is not None:
        found.append(("score <= ?::FLOAT", (chosen.high,)))
    if chosen.by_rule and chosen.low is None and chosen.high is None:
        found.append(("acts", ()))
    if chosen.since is not None:
        found.append(("scored_at >= ?", (_midnight(chosen.since),)))
    if chosen.until is not None:
        found.append(("scored_at < ?", (_midnight(chosen.until + timedelta(days=1)),)))
    return found


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


ORDERS: dict[Sort, tuple[str, bool]] = {
    Sort.NEWEST: ("epoch_us(scored_at)", True),
    Sort.HIGHEST: ("coalesce(score, -2)::DOUBLE", True),
    Sort.LOWEST: ("coalesce(score, 2)::DOUBLE", False),
    Sort.NEAREST: ("coalesce(abs(score - threshold), 9)::DOUBLE", False),
    Sort.NAME: ("0", False),
}
"""The number that each sorts by, and whether the highest comes first. Among equals, URIs ascend."""

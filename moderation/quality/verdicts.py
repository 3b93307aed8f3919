"""From answers of Great Expectations to verdicts, and the verdicts of many shards as one. Plain records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from moderation.quality.catalogue import CATALOGUE
from moderation.quality.quality_limits import QualityLimits
from moderation.results.check_results import EXAMPLES, CheckResult

Argument = str | float | bool | None | list[str] | list[bool]


class Expectation(NamedTuple):
    """One question to Great Expectations, on behalf of a check."""

    check: str
    kind: str
    """the expectation's name there, such as expect_column_values_to_be_unique"""
    arguments: Mapping[str, Argument]
    meaning: str
    """the question in words"""


class Unexpected(NamedTuple):
    """A row that does not hold."""

    key: str
    """the URI, file, shard or rule"""
    value: str
    """what stands there; empty where it says nothing"""


class Validation(BaseModel):
    """The answer to one expectation, over some rows."""

    model_config = ConfigDict(frozen=True)

    check: str
    kind: str
    arguments: Mapping[str, Argument]
    meaning: str
    passed: bool
    rows: int
    unexpected: int = 0
    examples: tuple[Unexpected, ...] = ()
    problem: str = ""
    """why the question could not be answered"""

    def __add__(self, other: "Validation") -> "Validation":
        """The same expectation over both sets of rows."""
        return self.model_copy(
            update={
                "passed": self.passed and other.passed,
                "rows": self.rows + other.rows,
                "unexpected": self.unexpected + other.unexpected,
                "examples": (*self.examples, *other.examples)[:EXAMPLES],
                "problem": self.problem or other.problem,
            }
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A check's result, and what it is made of. Small: it travels from Ray tasks to the driver."""

    result: CheckResult
    validations: tuple[Validation, ...]


class Words(NamedTuple):
    """What a run-level check found and allows, as people read it."""

    observed: str
    limit: str
    examples: tuple[str, ...] | None = None
    """what to look at if it fails; None: the rows that do not hold"""


def verdicts(
    validations: Sequence[Validation], limits: QualityLimits, words: Mapping[str, Words] | None = None
) -> tuple[Verdict, ...]:
    """One verdict for each check that was asked about, in the order of the catalogue. Without `words`, rows are counted."""
    found = []
    for name in CATALOGUE:
        own = tuple(v for v in validations if v.check == name)
        if own and limits.severity(name) is not None:
            found.append(_verdict(name, own, limits, (words or {}).get(name)))
    return tuple(found)


def merge(verdicts_: Iterable[Verdict], more: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts over two sets of rows as one for each check. Stays as small as each of them."""
    merged = {v.result.name: v for v in verdicts_}
    for verdict in more:
        known = merged.get(verdict.result.name)
        merged[verdict.result.name] = verdict if known is None else _sum(known, verdict)
    return tuple(merged[name] for name in CATALOGUE if name in merged)


def _sum(a: Verdict, b: Verdict) -> Verdict:
    validations = tuple(x + y for x, y in zip(a.validations, b.validations, strict=True))
    return Verdict(_counted(a.result, validations), validations)


def _verdict(name: str, validations: tuple[Validation, ...], limits: QualityLimits, words: Words | None) -> Verdict:
    about, severity = CATALOGUE[name], limits.severity(name)
    assert severity is not None  # noqa: S101 - checks that are off are not asked about
    result = CheckResult(name=name, description=about.description, severity=severity, passed=True, hint=about.hint)
    result = _counted(result, validations)
    if words is not None and not any(v.problem for v in validations):
        named = () if result.passed else result.examples if words.examples is None else words.examples[:EXAMPLES]
        result = result.model_copy(update={"observed": words.observed, "limit": words.limit, "examples": named})
    return Verdict(result, validations)


def _counted(result: CheckResult, validations: tuple[Validation, ...]) -> CheckResult:
    rows, unexpected = max(v.rows for v in validations), sum(v.unexpected for v in validations)
    problem = next((v.problem for v in validations if v.problem), "")
    observed = f"could not be checked: {problem}" if problem else _held(min(unexpected, rows), rows)
    keys = dict.fromkeys(example.key for v in validations for example in v.examples)
    return result.model_copy(
        update={
            "passed": all(v.passed for v in validations),
            "rows": rows,
            "unexpected": unexpected,
            "examples": tuple(keys)[:EXAMPLES],
            "observed": observed,
            "limit": "all rows pass",
        }
    )


def _held(wrong: int, rows: int) -> str:
    """Worded unambiguously: `0 of 302 rows` looks like a failure next to `passed`."""
    if wrong:
        return f"{wrong:,} of {rows:,} rows fail"
    return f"all {rows:,} rows pass" if rows != 1 else "the only row passes"

"""What a quality check says. Plain records; the checks themselves are in `quality.py`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["warn", "fail"]


class CheckResult(BaseModel):
    """The verdict of one check."""

    model_config = ConfigDict(frozen=True)

    name: str
    """stable, lower_snake_case"""
    description: str
    severity: Severity
    """what happens when it does not hold: `fail` keeps the run from being published"""
    passed: bool
    unexpected: int = 0
    """rows that do not hold"""
    examples: tuple[str, ...] = ()
    """up to 20 values that do not hold"""

    def __str__(self) -> str:
        some = f": {self.unexpected:,} rows, e.g. {', '.join(self.examples[:3])}" if self.unexpected else ""
        return f"{self.name} ({self.description}){some}"


def merge(results: list[tuple[CheckResult, ...]]) -> tuple[CheckResult, ...]:
    """The same checks over many shards as one verdict each."""
    merged: dict[str, CheckResult] = {}
    for result in (r for shard in results for r in shard):
        known = merged.get(result.name)
        if known is None:
            merged[result.name] = result
        else:
            merged[result.name] = known.model_copy(
                update={
                    "passed": known.passed and result.passed,
                    "unexpected": known.unexpected + result.unexpected,
                    "examples": (*known.examples, *result.examples)[:20],
                }
            )
    return tuple(merged.values())

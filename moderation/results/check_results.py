"""What a quality check says. Plain records; the checks themselves are in `moderation.quality`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["warn", "fail"]

EXAMPLES = 20
"""Rows or rules that a check names at most."""


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
    """rows, files or rules that do not hold"""
    examples: tuple[str, ...] = ()
    """up to `EXAMPLES` of them: URIs, files, shards or rule ids"""
    rows: int = 0
    """rows, files or rules that were looked at"""
    observed: str = ""
    """what was found, in words"""
    limit: str = ""
    """what is allowed, in words"""
    hint: str = ""
    """what to do when it does not hold, in one line"""

    def __str__(self) -> str:
        """One line: what was found, some examples, what to do."""
        found = self.observed or (f"{self.unexpected:,} rows" if self.unexpected else "")
        allowed = f" (allowed: {self.limit})" if found and self.limit else ""
        some = f", e.g. {', '.join(self.examples[:3])}" if self.examples else ""
        text = f": {found}{allowed}{some}" if found or some else ""
        return f"{self.name} ({self.description}){text}" + (f"; {self.hint}" if self.hint and not self.passed else "")

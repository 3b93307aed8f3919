"""Per rule, what a run leaves for the checks of later runs: how its scores are spread and how many images it flags."""

import math

from pydantic import BaseModel, ConfigDict, Field

from moderation.records import Counts
from moderation.results.aggregates import Aggregates


class RuleStatistics(BaseModel):
    """Scores and flags of one rule in one run. A few hundred bytes, kept in the manifest."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    histogram: tuple[int, ...]
    """images in equal bins from `low` to `high`; what lies outside is in the outermost bins"""
    minimum: float | None = None
    """lowest and highest score; None where a score is no number"""
    maximum: float | None = None
    scored: int = Field(ge=0)
    """images with a score under this rule"""
    flagged: int = Field(ge=0)
    """images for which the rule says review or block; a shadow rule's too"""

    @property
    def flag_rate(self) -> float:
        """The share of scored images that the rule flags, in 0 to 1; 0 where nothing was scored."""
        return self.flagged / self.scored if self.scored else 0.0


def rule_statistics(aggregates: Aggregates, counts: Counts) -> dict[str, RuleStatistics]:
    """What a run's sums say of each rule, by rule id. Only rules with scores are among them."""
    return {
        rule: RuleStatistics(
            low=found.low,
            high=found.high,
            histogram=found.histogram,
            minimum=_number(found.minimum),
            maximum=_number(found.maximum),
            scored=sum(found.histogram),
            flagged=counts.flagged.get(rule, 0) + counts.shadow.get(rule, 0),
        )
        for rule, found in sorted(aggregates.rules.items())
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

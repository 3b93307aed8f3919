"""What the report and the checks need of the rows, small enough to travel: per rule a histogram and the top images."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from moderation.policy.schema import Policy, Rule, ScoreKind

BINS = 40
EXAMPLES = 12
SIMILARITY_RANGE = (-0.2, 0.6)
"""Where cosines of images and texts lie in practice; what is outside falls into the outermost bins."""


class Example(NamedTuple):
    """An image worth looking at under a rule."""

    uri: str
    etag: str
    score: float
    action: str
    top_prompt: str
    frame: int


class ErrorExample(NamedTuple):
    """An object that could not be scored."""

    uri: str
    detail: str


class RuleAggregate(BaseModel):
    """Scores of one rule over many images."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    histogram: tuple[int, ...]
    """counts in `BINS` equal bins from `low` to `high`"""
    minimum: float
    maximum: float
    examples: tuple[Example, ...]
    """the highest scores, highest first"""

    def __add__(self, other: "RuleAggregate") -> "RuleAggregate":
        best = sorted((*self.examples, *other.examples), key=lambda e: (-e.score, e.uri))[:EXAMPLES]
        return RuleAggregate(
            low=self.low,
            high=self.high,
            histogram=tuple(a + b for a, b in zip(self.histogram, other.histogram, strict=True)),
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            examples=tuple(best),
        )


class Aggregates(BaseModel):
    """Aggregates of a shard or a run."""

    model_config = ConfigDict(frozen=True)

    rules: Mapping[str, RuleAggregate] = {}
    errors: Mapping[str, tuple[ErrorExample, ...]] = {}
    """some examples by error code"""

    def __add__(self, other: "Aggregates") -> "Aggregates":
        rules = dict(self.rules)
        for rule, aggregate in other.rules.items():
            rules[rule] = rules[rule] + aggregate if rule in rules else aggregate
        codes = sorted({*self.errors, *other.errors})
        errors = {code: (*self.errors.get(code, ()), *other.errors.get(code, ()))[:EXAMPLES] for code in codes}
        return Aggregates(rules=rules, errors=errors)


def aggregate(policy: Policy, decisions: pa.Table, scores: pa.Table) -> Aggregates:
    """Aggregates of one shard's rows."""
    rules = {}
    for rule in policy.active_rules:
        rows = scores.filter(pc.field("rule") == rule.id)
        if rows.num_rows:
            rules[rule.id] = _aggregate_rule(rule, rows)
    failed = decisions.filter(pc.field("status") == "error").select(["error_code", "uri", "error_detail"])
    errors: dict[str, tuple[ErrorExample, ...]] = {}
    for code in sorted(pc.unique(failed["error_code"]).to_pylist()):
        some = failed.filter(pc.field("error_code") == code).slice(0, EXAMPLES).to_pylist()
        errors[code] = tuple(ErrorExample(row["uri"], row["error_detail"]) for row in some)
    return Aggregates(rules=rules, errors=errors)


def _aggregate_rule(rule: Rule, rows: pa.Table) -> RuleAggregate:
    values = rows["score"].to_numpy()
    low, high = SIMILARITY_RANGE if rule.score is ScoreKind.SIMILARITY else (0.0, 1.0)
    histogram, _ = np.histogram(np.clip(values, low, high), bins=BINS, range=(low, high))
    best = np.lexsort((np.arange(len(values)), -values))[:EXAMPLES]
    top = rows.take(pa.array(best)).select(["uri", "etag", "score", "action", "top_prompt", "frame"]).to_pylist()
    return RuleAggregate(
        low=low,
        high=high,
        histogram=tuple(int(n) for n in histogram),
        minimum=float(values.min()),
        maximum=float(values.max()),
        examples=tuple(Example(**row) for row in top),
    )

"""The input of the checks: what rows should contain, the driver's counts, and facts about earlier runs."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from moderation.policy.schema import Policy
from moderation.quality.quality_limits import QualityLimits
from moderation.records import Counts
from moderation.results.aggregates import Aggregates
from moderation.results.rule_statistics import RuleStatistics, rule_statistics


@dataclass(frozen=True, slots=True)
class ExpectedRows:
    """What every row of a run must agree with."""

    run_id: str
    policy: Policy
    model_fingerprint: str


@dataclass(frozen=True)
class RunFacts:
    """What the driver knows of a run whose shards are all staged."""

    expected: ExpectedRows
    listed: int
    unchanged: int
    counts: Counts
    aggregates: Aggregates
    rows: Mapping[str, int]
    """rows in the files, by table"""
    planned_shards: frozenset[str]
    staged_shards: frozenset[str]
    named: int | None = None
    """objects that were to be listed, by the sources' own count; None: not counted"""
    may_be_empty: bool = False
    """whether an empty listing is normal, since the run processes only new objects"""

    @property
    def processed(self) -> int:
        """Objects scored or errored."""
        return self.counts.scored + self.counts.errors

    @cached_property
    def rules(self) -> dict[str, RuleStatistics]:
        """By rule id; rules without a score are not among them."""
        return rule_statistics(self.aggregates, self.counts)


@dataclass(frozen=True, slots=True)
class RunHistory:
    """An earlier published run, as its manifest tells it."""

    run_id: str
    published_at: datetime
    policy: str
    """name of the policy"""
    policy_hash: str
    model_fingerprint: str
    rules: Mapping[str, RuleStatistics]

    @property
    def scored(self) -> int:
        """Images with scores."""
        return max((rule.scored for rule in self.rules.values()), default=0)


def comparable_rates(history: Iterable[RunHistory], expected: ExpectedRows, limits: QualityLimits) -> list[RunHistory]:
    """The last published runs whose flag rates can be compared: those of the same policy name, newest first.

    Whatever their policy's version and their model: a mistake in either is just what a jump would show.
    """
    check = limits.checks.flag_rate
    runs = (r for r in history if r.policy == expected.policy.policy and r.scored >= check.at_least)
    return _newest(runs, expected, check.runs)


def comparable_scores(history: Iterable[RunHistory], expected: ExpectedRows, limits: QualityLimits) -> list[RunHistory]:
    """The last published runs whose scores can be compared: those of the same policy hash and model, newest first."""
    check = limits.checks.drift
    identity = (expected.policy.hash, expected.model_fingerprint)
    runs = (r for r in history if (r.policy_hash, r.model_fingerprint) == identity and r.scored >= check.at_least)
    return _newest(runs, expected, check.runs)


def recent(history: Iterable[RunHistory], expected: ExpectedRows, limits: QualityLimits) -> tuple[RunHistory, ...]:
    """The runs that a new one is compared with. Looks at all, holds on to no more than the limits ask for."""
    kept: dict[str, RunHistory] = {}
    for run in history:
        some = [*kept.values(), run]
        chosen = [*comparable_rates(some, expected, limits), *comparable_scores(some, expected, limits)]
        kept = {r.run_id: r for r in chosen}
    return tuple(kept.values())


def _newest(runs: Iterable[RunHistory], expected: ExpectedRows, count: int) -> list[RunHistory]:
    return heapq.nlargest(count, (r for r in runs if r.run_id != expected.run_id), key=lambda r: (r.published_at, r.run_id))

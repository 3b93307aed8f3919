"""Totals of a period, for the yearly transparency report (Articles 15 and 24 of the DSA)."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import duckdb

from moderation.dsa.blocks import Blocks
from moderation.dsa.statements import automated_decision, automated_detection
from moderation.query.connection import sql_errors

_REVIEWED = """
SELECT count(*), count(*) FILTER (decided_by = 'person'), count(*) FILTER (decided_by = 'person' AND action <> 'block')
FROM acting WHERE machine_action = 'block' AND scored_at >= $since AND scored_at < $until
"""
_APPEALS = """
SELECT count(*), count(*) FILTER (state = 'closed'), count(*) FILTER (outcome = 'overturned'),
    median(hours) FILTER (state = 'closed')
FROM appeals WHERE filed_at >= $since AND filed_at < $until
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of a period."""

    since: str
    until: str
    policy: str
    statements: int
    by_category: dict[str, int]
    by_decision_ground: dict[str, int]
    by_decision_visibility: dict[str, int]
    """a statement with several restrictions counts for each"""
    by_source_type: dict[str, int]
    by_automated_detection: dict[str, int]
    by_automated_decision: dict[str, int]
    by_rule: dict[str, int]
    automated_blocks: int
    """newest decisions of the period in which the machine blocked"""
    automated_blocks_reviewed: int
    """of these, how many a person decided afterwards"""
    automated_blocks_overturned: int
    """of those, how many are blocked no more: the base of an error rate"""
    appeals: int
    """objections filed in the period, under any policy"""
    appeals_closed: int
    appeals_overturned: int
    median_hours_to_close_appeals: float | None


def totals(connection: duckdb.DuckDBPyConnection, blocks: Blocks) -> Totals:
    """Count. `connection` is that of `blocks`. Raises `SettingsError`."""
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("category", "ground", "visibility", "source", "detection", "decision", "rule")
    }
    for rule, decided_by, machine_action, number in blocks.grouped():
        counts["rule"][rule or "none"] += number
        counts["detection"][automated_detection(machine_action)] += number
        counts["decision"][automated_decision(decided_by, machine_action)] += number
        dsa = blocks.of(rule)
        if dsa is not None:
            counts["category"][dsa.category.value] += number
            counts["ground"][dsa.decision_ground] += number
            counts["source"][dsa.source_type] += number
            counts["visibility"].update(dict.fromkeys(dsa.decision_visibility, number))
    period: dict[str, Any] = {"since": blocks.since, "until": blocks.until}
    with sql_errors():
        [(machine, reviewed, overturned)] = connection.execute(_REVIEWED, period).fetchall()
        [(filed, closed, upset, hours)] = connection.execute(_APPEALS, period).fetchall()
    return Totals(
        since=blocks.since.isoformat(),
        until=blocks.until.isoformat(),
        policy=blocks.policy.policy,
        statements=counts["rule"].total(),
        by_category=_sorted(counts["category"]),
        by_decision_ground=_sorted(counts["ground"]),
        by_decision_visibility=_sorted(counts["visibility"]),
        by_source_type=_sorted(counts["source"]),
        by_automated_detection=_sorted(counts["detection"]),
        by_automated_decision=_sorted(counts["decision"]),
        by_rule=_sorted(counts["rule"]),
        automated_blocks=machine,
        automated_blocks_reviewed=reviewed,
        automated_blocks_overturned=overturned,
        appeals=filed,
        appeals_closed=closed,
        appeals_overturned=upset,
        median_hours_to_close_appeals=None if hours is None else round(hours, 2),
    )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))

"""What people said about the images of published runs, counted for measures: how many were judged, and how many violate.

An image is its bytes (SHA-256): however often it was uploaded, it counts once, with its newest decision.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import duckdb

from moderation.measures.rates import NOBODY, Cell, Judged, cells
from moderation.measures.verdicts import gather_verdicts
from moderation.query.connection import sql_errors

By = Literal["policy", "version", "day"]

_PART = {
    "policy": ("NULL", "NULL", "NULL"),
    "version": ("policy_version", "policy_hash", "NULL"),
    "day": ("NULL", "NULL", "date"),
}
"""Version, hash and day by which decisions are kept apart; the policy's name always is."""

_POPULATION = """
CREATE OR REPLACE TEMP TABLE _population AS
SELECT * EXCLUDE (newest), unnest(newest) FROM (
    SELECT
        sha256 AS image, policy, {version}::VARCHAR AS version, {hash}::VARCHAR AS hash, {day}::DATE AS day,
        arg_max(
            {{'action': action, 'flags': flags, 'top_rule': top_rule, 'policy_hash': policy_hash}}, (scored_at, run_id)
        ) AS newest
    FROM decisions
    WHERE status = 'scored' AND sha256 IS NOT NULL AND date >= coalesce($since::DATE, DATE '0001-01-01') AND ({condition})
    GROUP BY ALL
)
"""

_KEYS = "policy, version, hash, day"
_COUNTS = "count(*) AS images, count(violates) AS judged, count(*) FILTER (violates) AS violating"

_OF_RULES = f"""
WITH flagged AS (SELECT * EXCLUDE (flags), unnest(flags) AS rule FROM _population WHERE action <> 'allow')
SELECT {_KEYS}, f.rule, f.action, {{kind}}, {_COUNTS}
FROM (
    SELECT f.*, coalesce(
        r.violates, CASE WHEN NOT w.violates THEN false WHEN w.violates AND f.rule = f.top_rule THEN true END
    ) AS violates
    FROM flagged AS f
    LEFT JOIN _rules_said AS r
        ON r.image = f.image AND r.rule = f.rule AND NOT list_contains(r.other_meaning, f.policy_hash)
    LEFT JOIN _said AS w ON w.image = f.image AND w.rule IS NULL
) AS f LEFT JOIN _chosen AS c ON c.image = f.image AND violates IS NOT NULL
GROUP BY ALL ORDER BY ALL
"""  # noqa: S608

_OF_POLICIES = f"""
WITH ruled AS (SELECT image, bool_or(violates) AS violates, list(rule) AS rules FROM _rules_said GROUP BY image)
SELECT {_KEYS}, NULL AS rule, p.action, {{kind}}, {_COUNTS}
FROM (
    SELECT p.*, CASE
        WHEN r.violates OR w.violates THEN true
        WHEN NOT w.violates OR (len(p.flags) > 0 AND list_has_all(r.rules, p.flags)) THEN false
    END AS violates
    FROM _population AS p
    LEFT JOIN ruled AS r ON r.image = p.image
    LEFT JOIN _said AS w ON w.image = p.image AND w.rule IS NULL
) AS p LEFT JOIN _chosen AS c ON c.image = p.image AND violates IS NOT NULL
GROUP BY ALL ORDER BY ALL
"""  # noqa: S608

_KIND = """
    CASE WHEN violates IS NULL OR action = 'review' THEN NULL ELSE c.single OR NOT c.audited END AS single,
    CASE WHEN violates IS NOT NULL AND action <> 'review' AND NOT c.single AND c.audited
        THEN coalesce(CASE action WHEN 'allow' THEN c.allow ELSE c.block END, 0) END AS weight"""
"""How a judged image was chosen. A weight of 0: by an audit of images with another action, before the policy changed."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which decisions are counted together. What they are not kept apart by is None."""

    policy: str
    version: str | None = None
    hash: str | None = None
    day: date | None = None


@dataclass(slots=True)
class Counted:
    """Images with one action: how many, and what people said."""

    images: int = 0
    everybody: Judged = NOBODY
    """all that were judged, for whatever reason"""
    single: Judged = NOBODY
    audits: dict[float, Judged] = field(default_factory=dict)

    def cells(self, action: str) -> list[Cell]:
        """As random samples; of what is in review, people look at everything."""
        if action == "review":
            return [Cell(self.images, self.everybody)] if self.images else []
        audits = dict(self.audits)
        other = audits.pop(0.0, Judged())  # of a domain that is now audited with the lowest of the weights, or was never
        if other.images:
            lowest = min(audits, default=1.0)
            audits[lowest] = audits.get(lowest, Judged()) + other
        return cells(self.images, self.single, audits)


ByAction = dict[str, Counted]


def prepare(
    connection: duckdb.DuckDBPyConnection, by: By = "policy", since: date | None = None, flagged_of: str | None = None
) -> None:
    """Gather decisions and verdicts in temporary tables of a connection from `moderation.query.connect`.

    Args:
        connection: with the views `decisions`, `reviews` and `current_reviews`.
        by: whether versions of a policy, or days, are kept apart.
        since: only decisions of runs that started on this day or later.
        flagged_of: only flagged images of the policy of this name, which are few: enough for `of_rules`.
    """
    version, identity, day = _PART[by]
    gather_verdicts(connection)
    with sql_errors():
        sql = _POPULATION.format(
            version=version,
            hash=identity,
            day=day,
            condition="$policy::VARCHAR IS NULL OR (action <> 'allow' AND policy = $policy)",
        )
        connection.execute(sql, {"since": since, "policy": flagged_of})


def of_rules(connection: duckdb.DuckDBPyConnection) -> dict[tuple[Part, str], ByAction]:
    """Images that each live rule flagged, by the action of the image. Call `prepare` first."""
    found: dict[tuple[Part, str], ByAction] = {}
    for part, rule, action, counted in _counts(connection, _OF_RULES):
        found.setdefault((part, rule or ""), {})[action] = counted
    return found


def of_policies(connection: duckdb.DuckDBPyConnection) -> dict[Part, ByAction]:
    """All scored images by action; an image violates if it violates any rule. Call `prepare` first."""
    found: dict[Part, ByAction] = {}
    for part, _, action, counted in _counts(connection, _OF_POLICIES):
        found.setdefault(part, {})[action] = counted
    return found


def _counts(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterable[tuple[Part, str | None, str, Counted]]:
    with sql_errors():
        rows = connection.execute(sql.format(kind=_KIND)).fetchall()
    found: dict[tuple[Part, str | None, str], Counted] = {}
    for policy, version, identity, day, rule, action, single, weight, images, judged, violating in rows:
        counted = found.setdefault((Part(policy, version, identity, day), rule, action), Counted())
        counted.images += images
        said = Judged(judged, violating)
        counted.everybody += said
        if single:
            counted.single += said
        elif weight is not None:
            counted.audits[weight] = counted.audits.get(weight, Judged()) + said
    return [(part, rule, action, counted) for (part, rule, action), counted in found.items()]

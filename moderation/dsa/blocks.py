"""Blocks in effect that began in a period, and whether the policy says enough about them for a statement of reasons."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from moderation.errors import SettingsError
from moderation.policy.dsa_keys import Dsa
from moderation.policy.schema import Policy
from moderation.query.connection import sql_errors
from moderation.query.policy_decisions import create_effective

_ROWS = 1_000

_BLOCKS = """
CREATE TEMP TABLE dsa_blocks AS
WITH versions AS (
    SELECT uri, coalesce(sha256, 'etag:' || etag) AS content, action, scored_at FROM decisions
    WHERE policy = (SELECT any_value(policy) FROM acting)
), others AS (
    SELECT uri, content, max(scored_at) FILTER (action <> 'block') AS last_other FROM versions GROUP BY ALL
), starts AS (
    SELECT v.uri, v.content, min(v.scored_at) AS first_block FROM versions AS v JOIN others AS o USING (uri, content)
    WHERE v.action = 'block' AND (o.last_other IS NULL OR v.scored_at > o.last_other) GROUP BY ALL
)
SELECT a.policy, a.policy_version, a.machine_action, a.decided_by, a.decided_at, a.reason, a.flagged, a.top_rule,
    a.top_category, a.top_score, a.top_threshold, a.error_code, a.last_modified,
    CASE WHEN a.machine_action = 'block' THEN coalesce(s.first_block, a.scored_at) ELSE a.decided_at END AS began,
    a.policy || chr(10) || a.uri || chr(10) || coalesce(a.sha256, 'etag:' || a.etag) AS identity,
    CASE
        WHEN a.decided_by = 'person' AND a.reviewed_rule IS NOT NULL THEN a.reviewed_rule
        WHEN a.flagged THEN a.top_rule
    END AS rule,
    left(sha256(identity || chr(10) || epoch_us(began)), 40) AS puid
FROM acting AS a LEFT JOIN starts AS s ON s.uri = a.uri AND s.content = coalesce(a.sha256, 'etag:' || a.etag)
WHERE a.action = 'block'
"""
"""A block begins with the machine's first one since which the policy decided nothing else about the same bytes, or with the
person's where the machine decided something else. It has the same `puid` in every export."""

_IN_PERIOD = "DELETE FROM dsa_blocks WHERE began < $since OR began >= $until"


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A rule about whose blocks the policy says nothing."""

    rule: str | None
    """None: blocks that no rule explains"""
    blocks: int


class Blocks:
    """The blocks of one policy that are in effect and began in a period.

    Args:
        connection: from `moderation.query.connect`.
        policy: what it says under `dsa` counts for all of its versions.
        since: the first moment of the period.
        until: the first moment after it.

    Raises:
        SettingsError: no run is published of the policy.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, policy: Policy, since: datetime, until: datetime) -> None:
        self._connection, self.policy, self.since, self.until = connection, policy, since, until
        self._dsa = {rule.id: rule.dsa for rule in policy.rules}
        with sql_errors():
            create_effective(connection, policy.policy, "--policy")
            connection.execute(_BLOCKS)
            connection.execute(_IN_PERIOD, {"since": since, "until": until})

    def of(self, rule: str | None) -> Dsa | None:
        """What the policy says about blocks of a rule; None: nothing."""
        return self.policy.dsa if rule is None else self._dsa.get(rule)

    def incomplete(self) -> list[Incomplete]:
        """Rules with blocks about which the policy says nothing, those with most blocks first."""
        with sql_errors():
            found = self._connection.execute(
                "SELECT rule, count(*) FROM dsa_blocks GROUP BY rule ORDER BY 2 DESC, 1"
            ).fetchall()
        return [Incomplete(rule, count) for rule, count in found if self.of(rule) is None]

    def check(self) -> None:
        """Raise `SettingsError`, which names every rule, if the policy does not say enough."""
        missing = self.incomplete()
        if not missing:
            return
        lines = [f"  {self._named(one.rule)}: {one.blocks:,} block{'' if one.blocks == 1 else 's'}" for one in missing]
        raise SettingsError(
            "the policy does not say enough for statements of reasons: add `dsa:` (docs/dsa.md) for\n" + "\n".join(lines)
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each block, the oldest first. Memory holds some thousand at a time."""
        with sql_errors():
            reader = self._connection.sql("SELECT * FROM dsa_blocks ORDER BY began, puid").to_arrow_reader(_ROWS)
            for batch in reader:
                yield from batch.to_pylist()

    def grouped(self) -> list[tuple[str | None, str, str, int]]:
        """Counts by rule, by who decided, and by the machine's action."""
        with sql_errors():
            return self._connection.execute(
                "SELECT rule, decided_by, machine_action, count(*) FROM dsa_blocks GROUP BY ALL ORDER BY ALL"
            ).fetchall()

    def _named(self, rule: str | None) -> str:
        if rule is None:
            return "the policy itself, for blocks that no rule explains"
        return f"rule {rule}" if rule in self._dsa else f"rule {rule}, which the policy no longer has: keep it with `mode: off`"

"""Which effective decisions are to be sent to a target: those that differ from what it received last."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

import duckdb
import pyarrow as pa

from moderation.actions.deliveries import ITEMS, Delivery, idempotency_key
from moderation.actions.outbox import Outbox
from moderation.actions.targets import NewPolicy, Target
from moderation.query.connection import sql_errors
from moderation.query.policy_decisions import create_effective

_ROWS = 1_000

_ITEM = "from_hex(left(sha256(uri), 32))"
_CONTENT = "from_hex(left(sha256(coalesce(sha256, 'etag:' || etag)), 32))"

_DUE = f"""
CREATE TEMP TABLE due AS
WITH wanted AS (
    SELECT uri, run_id, action, machine_action, decided_by, decided_at, review_id, policy_hash,
        {_ITEM} AS item, {_CONTENT} AS content,
        list_contains($actions, action) AND ($decided_by = 'anyone' OR decided_by = $decided_by) AND {{rules}} AS chosen
    FROM acting
)
SELECT w.* EXCLUDE (chosen), s.action AS previous_action, coalesce(s.change, 0) + 1 AS change
FROM wanted AS w LEFT JOIN sent AS s ON s.item = w.item
WHERE CASE
    WHEN s.item IS NULL THEN chosen AND decided_at >= $since
    WHEN w.action <> s.action THEN true
    ELSE chosen AND (w.content <> s.content OR ($again AND w.policy_hash <> s.policy_hash))
END
"""  # noqa: S608
"""A target that never received an image receives what it asks for; one that did receives every other action afterwards. Few
columns, since all decisions are sorted for it."""

_RULES = "(list_has_any(flags, $rules) OR coalesce(list_contains($rules, reviewed_rule), false))"

_MESSAGES = """
SELECT due.*, d.etag, d.sha256, d.flags, d.top_rule, d.top_category, d.error_code, d.policy, d.policy_version,
    r.reviewer, r.verdict, r.reason, coalesce(s.scores, []) AS scores
FROM due
JOIN decisions AS d ON d.run_id = due.run_id AND d.uri = due.uri AND list_contains($runs, d.run)
LEFT JOIN (
    SELECT review_id, any_value(reviewer) AS reviewer, any_value(verdict) AS verdict, any_value(reason) AS reason
    FROM reviews SEMI JOIN due USING (review_id) GROUP BY review_id
) AS r ON r.review_id = due.review_id
LEFT JOIN (
    SELECT s.run_id, s.uri, list({
        'rule': s.rule, 'score': s.score, 'action': s.action,
        'threshold': CASE s.action WHEN 'block' THEN s.block ELSE s.review END
    } ORDER BY s.rule) AS scores
    FROM scores AS s SEMI JOIN due ON due.run_id = s.run_id AND due.uri = s.uri
    WHERE s.mode = 'live' AND s.action <> 'allow' AND list_contains($runs, s.run)
    GROUP BY s.run_id, s.uri
) AS s ON s.run_id = due.run_id AND s.uri = due.uri
ORDER BY due.decided_at, due.uri
"""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be sent to a target."""

    target: Target
    counts: dict[str, int]
    """images by action"""
    examples: tuple[tuple[str, str], ...]
    """some of them: action and URI"""
    connection: duckdb.DuckDBPyConnection

    @property
    def images(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    def deliveries(self) -> Iterator[Delivery]:
        """Each of them, the oldest decision first. Memory holds some thousand at a time."""
        if not self.images:
            return
        with sql_errors():
            runs = [run for (run,) in self.connection.execute("SELECT DISTINCT run_id FROM due").fetchall()]
            reader = self.connection.sql(_MESSAGES, params={"runs": runs}).to_arrow_reader(_ROWS)
            for batch in reader:
                for row in batch.to_pylist():
                    yield _delivery(self.target, row)


def find_changes(connection: duckdb.DuckDBPyConnection, target: Target, outbox: Outbox) -> Changes:
    """Compare effective decisions with the deliveries of an outbox.

    Args:
        connection: from `moderation.query.connect`, and not used for another target.
        target: whose.
        outbox: its deliveries.

    Raises:
        SettingsError: the results have no such policy, or several and the target names none.
        StorageError: the outbox cannot be read.
    """
    since = datetime.combine(target.since, time(), UTC) if target.since is not None else _BEGINNING
    with sql_errors():
        create_effective(connection, target.policy, f"target {target.name}")
        connection.register("sending", pa.RecordBatchReader.from_batches(ITEMS, outbox.items()))
        connection.execute(
            "CREATE TEMP TABLE sent AS SELECT item, max_by(content, change) AS content, max_by(action, change) AS action, "
            "max_by(policy_hash, change) AS policy_hash, max(change) AS change FROM sending GROUP BY item"
        )
        connection.unregister("sending")
        wanted: dict[str, Any] = {
            "actions": [str(action) for action in target.actions],
            "decided_by": target.decided_by,
            "since": since,
            "again": target.new_policy is NewPolicy.SEND,
        }
        if target.rules:
            wanted["rules"] = list(target.rules)
        connection.execute(_DUE.format(rules=_RULES if target.rules else "true"), wanted)
        counts = dict(connection.execute("SELECT action, count(*) FROM due GROUP BY action ORDER BY action").fetchall())
        examples = connection.execute("SELECT action, uri FROM due ORDER BY decided_at, uri LIMIT 5").fetchall()
    return Changes(target, counts, tuple(examples), connection)


def _delivery(target: Target, row: dict[str, Any]) -> Delivery:
    key = idempotency_key(target.name, row["item"], row["content"], row["policy_hash"], row["action"], row["change"])
    message = {
        "type": "moderation.action",
        "id": key,
        "target": target.name,
        "created_at": _moment(datetime.now(UTC)),
        "change": row["change"],
        "action": row["action"],
        "previous_action": row["previous_action"],
        "item": {"uri": row["uri"], "etag": row["etag"], "sha256": row["sha256"]},
        "decided_by": row["decided_by"],
        "decided_at": _moment(row["decided_at"]),
        "machine_action": row["machine_action"],
        "rules": row["flags"],
        "top_rule": row["top_rule"],
        "top_category": row["top_category"],
        "scores": [_score(score) for score in row["scores"]],
        "error_code": row["error_code"],
        "reviewer": row["reviewer"],
        "verdict": row["verdict"],
        "reason": row["reason"],
        "review_id": row["review_id"],
        "policy": {"name": row["policy"], "version": row["policy_version"], "hash": row["policy_hash"]},
        "run_id": row["run_id"],
    }
    return Delivery(
        key=key,
        item=row["item"],
        content=row["content"],
        uri=row["uri"],
        etag=row["etag"],
        sha256=row["sha256"],
        action=row["action"],
        policy_hash=row["policy_hash"],
        change=row["change"],
        payload=json.dumps(message, separators=(",", ":")),
    )


def _score(score: dict[str, Any]) -> dict[str, Any]:
    rounded = {name: round(score[name], 6) if score[name] is not None else None for name in ("score", "threshold")}
    return {**score, **rounded}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def described(counts: dict[str, int], names: Sequence[str] = ("block", "review", "allow")) -> str:
    """Counts in words: `12 block, 3 allow`."""
    return ", ".join(f"{counts[name]:,} {name}" for name in names if counts.get(name)) or "nothing"

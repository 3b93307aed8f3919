"""The decisions that a target acts on: of one policy, the newest of each image, overridden by the newest one of a person."""

import difflib

import duckdb
import pyarrow as pa

from moderation.actions.targets import Target
from moderation.errors import SettingsError
from moderation.reviews.current import CURRENT, DECIDING, IMAGE

_NEWEST = """
SELECT * FROM decisions WHERE policy = {policy}
QUALIFY row_number() OVER (PARTITION BY uri ORDER BY scored_at DESC, run_id DESC) = 1
"""

_ACTING = f"""
CREATE TEMP VIEW acting AS
SELECT n.* REPLACE (
        CASE WHEN d.action = 'escalate' AND n.action = 'allow' THEN 'review' WHEN d.action = 'escalate' THEN n.action
            ELSE coalesce(d.action, n.action) END AS action
    ),
    n.action AS machine_action,
    CASE WHEN d.review_id IS NULL THEN 'machine' ELSE 'person' END AS decided_by,
    coalesce(d.decided_at, n.scored_at) AS decided_at,
    d.reviewer, d.verdict, d.rule AS reviewed_rule, d.reason, d.review_id
FROM newest_of_policy AS n LEFT JOIN (SELECT *, {IMAGE} AS image FROM deciding) AS d
    ON d.image = coalesce(n.sha256, n.uri || chr(10) || n.etag)
"""  # noqa: S608


def create_effective(connection: duckdb.DuckDBPyConnection, target: Target, reviews: pa.Table) -> None:
    """Make the view `acting`: one row per image, with the columns of `effective_decisions`. Raises `SettingsError`."""
    known = [name for (name,) in connection.execute("SELECT DISTINCT policy FROM runs ORDER BY policy").fetchall()]
    if target.policy is None and len(known) > 1:
        raise SettingsError(f"target {target.name}: the results have several policies, {', '.join(known)}: add `policy:` with one")
    policy = target.policy or known[0]
    if policy not in known:
        near = difflib.get_close_matches(policy, known, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise SettingsError(f"target {target.name}: no run is published of the policy {policy!r}: {meant}")
    connection.register("all_reviews", reviews)
    connection.execute(f"CREATE TEMP VIEW current_reviews AS {CURRENT.replace('FROM reviews', 'FROM all_reviews')}")
    connection.execute(f"CREATE TEMP VIEW deciding AS {DECIDING}")
    connection.execute(f"CREATE TEMP VIEW newest_of_policy AS {_NEWEST.format(policy=_literal(policy))}")
    connection.execute(_ACTING)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

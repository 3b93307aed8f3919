"""The decisions in effect of one policy: the newest of each image, or that of a person."""

import difflib

import duckdb

from moderation.errors import SettingsError
from moderation.query.review_sql import effective_sql


def create_effective(connection: duckdb.DuckDBPyConnection, policy: str | None, who: str) -> None:
    """Make the view `acting`: like `effective_decisions`, of one policy.

    Args:
        connection: from `moderation.query.connect`.
        policy: its name; None: the only one.
        who: what messages call whatever names the policy.

    Raises:
        SettingsError: the results have no such policy, or several and none is named.
    """
    known = [name for (name,) in connection.execute("SELECT DISTINCT policy FROM runs ORDER BY policy").fetchall()]
    if policy is None and len(known) > 1:
        raise SettingsError(f"{who}: the results have several policies, {', '.join(known)}: name one")
    policy = policy or known[0]
    if policy not in known:
        near = difflib.get_close_matches(policy, known, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise SettingsError(f"{who}: no run is published of the policy {policy!r}: {meant}")
    decisions = f"(SELECT * FROM decisions WHERE policy = {_literal(policy)})"  # noqa: S608
    connection.execute(f"CREATE TEMP VIEW acting AS {effective_sql(decisions)}")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

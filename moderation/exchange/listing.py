"""Reviews as a person looks for them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from moderation.query.connection import sql_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which reviews; None: any."""

    image: str | None = None
    """a URI or a SHA-256"""
    reviewer: str | None = None
    rule: str | None = None
    queue: str | None = None
    since: datetime | None = None
    history: bool = False
    """whether reviews that a later one replaced are listed as well"""


def list_reviews(connection: duckdb.DuckDBPyConnection, chosen: Filter, limit: int) -> list[dict[str, Any]]:
    """By column of `reviews`, newest first.

    Raises:
        SettingsError: the results cannot be read.
    """
    view = "reviews" if chosen.history else "current_reviews"
    conditions = {
        "image": "($image IN (uri, sha256))",
        "reviewer": "reviewer = $reviewer",
        "rule": "rule = $rule",
        "queue": "queue = $queue",
        "since": "decided_at >= $since",
    }
    given = {name: getattr(chosen, name) for name in conditions if getattr(chosen, name) is not None}
    where = " AND ".join(["true", *(conditions[name] for name in given)])
    sql = f"SELECT * FROM {view} WHERE {where} ORDER BY decided_at DESC, review_id DESC LIMIT {int(limit)}"  # noqa: S608
    with sql_errors():
        rows: list[dict[str, Any]] = connection.sql(sql, params=given).to_arrow_table().to_pylist()
    return rows

"""The rows of a queue, for files that leave the results."""

import duckdb

from moderation.exchange.queue_item import QueueItem
from moderation.query.connection import sql_errors

_COLUMNS = """
    uri, etag, sha256, top_rule AS rule, top_category AS category, machine_action, top_score AS score,
    top_threshold AS threshold, policy, run_id, queue,
    CASE WHEN appeal_id IS NULL THEN 'decision' ELSE 'appeal' END AS selection, appeal_id, appeal_text, last_note, restricted
"""


def queue_items(connection: duckdb.DuckDBPyConnection, queue: str, limit: int | None = None) -> list[QueueItem]:
    """The images of a queue, those that have waited longest first.

    Raises:
        SettingsError: the results cannot be read.
    """
    most = "" if limit is None else f"LIMIT {int(limit)}"
    sql = f"SELECT {_COLUMNS} FROM review_queue WHERE queue = $queue ORDER BY waiting_since, uri {most}"  # noqa: S608
    with sql_errors():
        rows = connection.sql(sql, params={"queue": queue}).to_arrow_table().to_pylist()
    return [QueueItem(**row) for row in rows]

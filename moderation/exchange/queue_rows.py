"""The rows of a queue, for files that leave the results."""

import duckdb

from moderation.exchange.queue_item import QueueItem
from moderation.query.connection import sql_errors
from moderation.query.review_sql import DEFAULT_QUEUE, SUGGESTION, queue_sql

_SHOWN = """
    uri, etag, sha256, top_rule AS rule, top_category AS category, machine_action, top_score AS score,
    top_threshold AS threshold, policy, run_id, queue,
    CASE WHEN appeal_id IS NULL THEN 'decision' ELSE 'appeal' END AS selection, appeal_id, appeal_text, last_note, restricted,
    pdq, pdq_quality
"""
_COLUMNS = """
    * EXCLUDE (pdq, pdq_quality, near),
    near.action || ', a picture that looks the same (distance ' || near.distance || ')' AS suggestion
"""


def queue_items(connection: duckdb.DuckDBPyConnection, queue: str, limit: int | None = None) -> list[QueueItem]:
    """The images of a queue, those that have waited longest first.

    Raises:
        SettingsError: the results cannot be read.
    """
    if queue == DEFAULT_QUEUE and limit is not None:
        # Some of the images that the quick way looks at may turn out to be answered, under another key.
        found = _items(connection, f"({queue_sql(2 * limit)})", queue, limit)
        if len(found) == limit:
            return found
    return _items(connection, "review_queue", queue, limit)


def _items(connection: duckdb.DuckDBPyConnection, rows: str, queue: str, limit: int | None) -> list[QueueItem]:
    most = "" if limit is None else f"LIMIT {int(limit)}"
    shown = f"SELECT {_SHOWN} FROM {rows} WHERE queue = $queue ORDER BY waiting_since, uri {most}"  # noqa: S608
    # Suggestions are looked up for what is shown only.
    sql = f"SELECT {_COLUMNS} FROM (SELECT *, {SUGGESTION} AS near FROM ({shown}))"  # noqa: S608
    with sql_errors():
        found = connection.sql(sql, params={"queue": queue}).to_arrow_table().to_pylist()
    return [QueueItem(**row) for row in found]

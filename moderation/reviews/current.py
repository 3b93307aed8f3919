"""Which review counts: of a person about an image and a rule the newest, of an image the newest decision of any person.

SQL for DuckDB, which the views of `moderate query` are made of, and the same for Arrow tables.
"""

import duckdb
import pyarrow as pa

IMAGE = "coalesce(sha256, uri || chr(10) || etag)"
"""What a review belongs to: bytes, or the version of an object that could not be read."""


def current_sql(reviews: str) -> str:
    """Of the reviews in a table or view: the newest of each image, rule and reviewer that none supersedes.

    Rows that are there twice count once.
    """
    return f"""
SELECT r.* FROM {reviews} AS r
WHERE NOT EXISTS (
    SELECT 1 FROM {reviews} AS later
    WHERE later.supersedes = r.review_id AND (later.decided_at, later.review_id) > (r.decided_at, r.review_id)
)
QUALIFY row_number() OVER (
    PARTITION BY {IMAGE}, rule, reviewer, selection = 'golden' ORDER BY decided_at DESC, review_id DESC
) = 1
"""  # noqa: S608


DECIDING = f"""
SELECT * FROM current_reviews WHERE action IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY {IMAGE} ORDER BY decided_at DESC, review_id DESC) = 1
"""  # noqa: S608
"""Of `current_reviews`: the newest decision about each image, whatever rule it names."""


def current(reviews: pa.Table) -> pa.Table:
    """The reviews that count, by `review_id`: the newest of each image, rule and reviewer that none supersedes.

    Args:
        reviews: rows of the table `reviews`, with all columns.
    """
    return _select(current_sql("reviews"), reviews=reviews)


def deciding(reviews: pa.Table) -> pa.Table:
    """The newest decision about each image, by `review_id`. `reviews` as for `current`."""
    return _select(DECIDING, current_reviews=current(reviews))


def _select(sql: str, **tables: pa.Table) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        for name, table in tables.items():
            connection.register(name, table)
        found = connection.sql(f"SELECT * FROM ({sql}) ORDER BY review_id").to_arrow_table()  # noqa: S608
    (schema,) = {table.schema for table in tables.values()}
    return found.cast(schema)

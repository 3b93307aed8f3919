"""What the results know of the images that a file names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import pyarrow as pa

from moderation.query.connection import sql_errors

_SAID = pa.schema(
    [("n", pa.int64()), ("uri", pa.string()), ("sha256", pa.string()), ("run_id", pa.string()), ("rule", pa.string())]
)

_FOUND = """
WITH matching AS (
    SELECT s.n, d.* FROM _said AS s JOIN decisions AS d ON d.uri = s.uri
    UNION ALL
    SELECT s.n, d.* FROM _said AS s JOIN decisions AS d ON d.sha256 = s.sha256 AND d.uri <> s.uri
)
SELECT s.n, s.rule, d.uri, d.etag, d.sha256, d.pdq, d.frame, d.run_id, d.policy, d.policy_version, d.policy_hash, d.action,
    d.flags, d.top_rule, d.top_score, d.top_threshold, d.run
FROM matching AS d JOIN _said AS s USING (n)
QUALIFY row_number() OVER (
    PARTITION BY s.n
    ORDER BY d.sha256 IS NOT DISTINCT FROM coalesce(s.sha256, d.sha256) DESC, d.uri = s.uri DESC,
        d.run_id IS NOT DISTINCT FROM s.run_id DESC, d.scored_at DESC, d.run_id DESC
) = 1
"""
"""Of each row of the file the decision that it is about: of these bytes, under this key, in this run, the newest."""

_SCORED = """
SELECT f.*,
    CASE WHEN f.rule IS NULL OR f.rule = f.top_rule THEN f.top_score ELSE s.score END AS score,
    CASE WHEN f.rule IS NULL OR f.rule = f.top_rule THEN f.top_threshold
        WHEN s.block <= s.score OR s.review IS NULL THEN s.block ELSE s.review END AS threshold
FROM _found AS f LEFT JOIN scores AS s
    ON s.run = f.run AND s.uri = f.uri AND s.rule = f.rule AND f.rule IS DISTINCT FROM f.top_rule
"""


class Wanted(NamedTuple):
    """An image as a file names it."""

    uri: str
    sha256: str | None = None
    run_id: str | None = None
    rule: str | None = None
    """whose score is asked for; None: the top rule's"""


@dataclass(frozen=True, slots=True)
class KnownImage:
    """The decision about an image that a row of a file is about."""

    uri: str
    etag: str
    sha256: str | None
    pdq: str | None
    frame: int | None
    run_id: str
    policy: str
    policy_version: str
    policy_hash: str
    action: str
    flags: frozenset[str]
    """live rules that act"""
    top_rule: str | None
    score: float | None
    """of the row's rule, or of the top rule"""
    threshold: float | None


def known_images(connection: duckdb.DuckDBPyConnection, wanted: Sequence[Wanted]) -> Mapping[int, KnownImage]:
    """By the place in `wanted`: the image. Those whose image no run has decided are missing.

    Raises:
        SettingsError: the results cannot be read.
    """
    rows = [{"n": n, **one._asdict()} for n, one in enumerate(wanted)]
    connection.register("_said", pa.Table.from_pylist(rows, schema=_SAID))
    try:
        with sql_errors():
            found = connection.sql(_FOUND).to_arrow_table()
            connection.register("_found", found)
            scored = connection.sql(_SCORED).to_arrow_table().to_pylist()
    finally:
        connection.unregister("_said")
        connection.unregister("_found")
    return {
        row["n"]: KnownImage(
            **{name: row[name] for name in KnownImage.__slots__ if name != "flags"}, flags=frozenset(row["flags"] or ())
        )
        for row in scored
    }

"""Asking questions of results with SQL.

`connect` gives a DuckDB connection whose views show published runs, and which can read those and nothing else.
"""

import contextlib
import re
from collections.abc import Iterator

import duckdb

from moderation.common.safe_text import visible
from moderation.errors import SettingsError, StorageError
from moderation.query.locking import lock
from moderation.query.views import VIEWS, create_views
from moderation.results.manifest import Manifest, published_manifests
from moderation.results.runs import unpublished
from moderation.reviews.validity import DEFAULT, Validity
from moderation.storage import Store

__all__ = ["VIEWS", "connect", "select"]

_LONGEST_ERROR = 600
_GONE = re.compile(r'No files found that match the pattern "(.+)"|Cannot access file "(.+)/\*\*/\*\.parquet"', re.DOTALL)
"""What DuckDB says of a file that does not exist; in the end it looks for a folder of that name."""


def connect(results: str, validity: Validity = DEFAULT) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the `VIEWS`, and the function `pdq_distance(a, b)`.

    `results` is the output of runs: a folder or URI; `validity` says how far a verdict of a person reaches. The views show the
    runs that are published and the reviews that are there now; connect again to see later ones. The connection is kept in
    memory, reads no other files, uses no network but for the results, and loads no extensions; register what you want to join:
    `connection.register("mine", frame)`.

    Raises:
        SettingsError: no run is published there, or it cannot be read.
        OutputError: a manifest there is broken.
    """
    connection = duckdb.connect()
    try:
        output = Store(results)
        with sql_errors():
            lock(connection, "query", allowed_paths=create_views(connection, output, _published(output), validity))
    except StorageError as error:
        connection.close()
        raise SettingsError(f"cannot read results in {visible(results)}: {error.detail}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def select(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    """The result of one SELECT, computed as it is read.

    Raises:
        SettingsError: DuckDB cannot run it, it is not a SELECT, or there are several statements.
    """
    with sql_errors(sql):
        statements = connection.extract_statements(sql)
        if not statements:
            raise SettingsError("no SQL given")
        if len(statements) > 1:
            raise SettingsError(f"there are {len(statements)} statements: give one (use WITH for subqueries)")
        if statements[0].type != duckdb.StatementType.SELECT:
            kind = statements[0].type.name
            wording = "PIVOT needs explicit values: PIVOT ... ON column IN (...)" if kind == "MULTI" else f"this is {kind}"
            raise SettingsError(f"only SELECT can be run (also WITH, FROM, DESCRIBE, SUMMARIZE): {wording}")
        return connection.sql(sql)


@contextlib.contextmanager
def sql_errors(sql: str = "") -> Iterator[None]:
    """DuckDB's errors, also those that show while rows are read, as one line of text."""
    try:
        yield
    except duckdb.Error as error:
        raise SettingsError(_one_line(str(error), len(sql.splitlines()))) from None


def _published(output: Store) -> Iterator[Manifest]:
    found = False
    for manifest in published_manifests(output):
        found = True
        yield manifest
    if not found:
        wording = unpublished(output) or "give the --output of `moderate run`"
        raise SettingsError(f"no run is published in {visible(output.uri)}: {wording}")


def _one_line(message: str, lines: int) -> str:
    text, _, place = message.partition("\n\nLINE ")
    _, _, raised = text.partition("Traceback (most recent call last):")  # by what opens files in buckets
    if raised:
        text = raised.strip().splitlines()[-1].partition(": ")[2]
    if gone := _GONE.search(text):
        path = gone[1] or gone[2]
        compacted = re.search(r"/(?:reviews|appeals)/date=[^/]+/[^/]+$", path)
        why = "it was compacted since: run the query again" if compacted else "a manifest names it, but it no longer exists"
        text = f"cannot read {path}: {why}"
    line = re.match(r"\d+", place)
    where = f" (line {line[0]})" if line and 1 < lines >= int(line[0]) else ""
    wording = visible(" ".join(text.split()))
    return (wording if len(wording) <= _LONGEST_ERROR else f"{wording[:_LONGEST_ERROR]} ...") + where

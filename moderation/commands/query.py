"""`moderate query` and `moderate results`: results for analysts."""

import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.errors import SettingsError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

results_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Documentation of the result tables.")

_EXAMPLE = 'moderate query --results results "SELECT action, count(*) FROM latest_decisions GROUP BY action"'


def query(
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    sql: Annotated[str | None, typer.Argument(metavar="SQL", help="One SELECT.", show_default=False)] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the SQL from this file instead.")] = None,
    as_csv: Annotated[
        bool,
        typer.Option("--csv", help="Print CSV. An apostrophe is put before text that a spreadsheet would run as a formula."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array with an object per row.")] = False,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write a Parquet file.", show_default=False)] = None,
) -> None:
    """Query published results with SQL (DuckDB's dialect).

    The views are `decisions`, `latest_decisions` (the newest of each image), `image_rules` (the same, one row per image and
    rule, without lists), `scores`, `embeddings`, `errors`, `runs`, and of what people decided `effective_decisions`,
    `review_queue`, `reviews`, `current_reviews` and `appeals`. `DESCRIBE decisions` shows the columns;
    `pdq_distance(a, b)` measures how much two pictures differ. Queries can read the published results and nothing else.

    Example: `moderate query --results results "SELECT action, count(*) FROM latest_decisions GROUP BY action"`
    """
    if (sql is None) == (file is None):
        raise SettingsError("give either SQL or --file" if file else f"no SQL given; for example: {_EXAMPLE}")
    if as_csv + as_json + (parquet is not None) > 1:
        raise SettingsError("give one of --csv, --json and --parquet")
    text = sql if sql is not None else _read(file)

    from moderation.query.connection import connect

    try:
        with connect(results) as connection, ThreadPoolExecutor(1) as thread:
            work = thread.submit(_answer, connection, text, as_csv, as_json, parquet)
            try:
                work.result()
            except KeyboardInterrupt:
                while not work.done():
                    connection.interrupt()
                    wait([work], 0.1)
                raise
    except KeyboardInterrupt:
        sys.exit(130)


@results_app.command()
def dictionary() -> None:
    """Print the data dictionary in Markdown: every table and column, with type and description."""
    from moderation.query.dictionary import dictionary as tables

    typer.echo(tables(), nl=False)


def _answer(connection: "DuckDBPyConnection", sql: str, as_csv: bool, as_json: bool, parquet: Path | None) -> None:
    """Run in a separate thread: while DuckDB computes, only a thread that waits in Python notices Ctrl-C."""
    from moderation.console import query as query_console
    from moderation.query.connection import select

    found = select(connection, sql)
    if parquet is not None:
        count = query_console.write_parquet(found, parquet)
        typer.echo(f"{count:,} row{'' if count == 1 else 's'} written to {parquet}", err=True)
    elif as_csv:
        query_console.write_csv(found, sys.stdout)
    elif as_json:
        query_console.write_json(found, sys.stdout)
    else:
        query_console.show_table(found)


def _read(file: Path | None) -> str:
    try:
        return Path(file or "").read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"cannot read the SQL in {file}: {reason}") from None

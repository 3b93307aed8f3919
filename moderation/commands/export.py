"""The `moderate export` commands: dsa."""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TextIO

import typer

from moderation.errors import SettingsError

export_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Decisions in the formats of others.")


@export_app.callback()
def _group() -> None:
    """Decisions in the formats of others."""


@export_app.command()
def dsa(
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    policy: Annotated[
        Path,
        typer.Option(
            "--policy", "-p", help="The policy whose blocks are exported; its keys `dsa` say why.", show_default=False
        ),
    ],
    since: Annotated[
        str, typer.Option("--since", help="Blocks that began since: 2026-01-01 (UTC), 30d, 12w or 1y.", show_default=False)
    ],
    until: Annotated[
        str | None, typer.Option("--until", help="Blocks that began before: 2027-01-01. Default: now.", show_default=False)
    ] = None,
    form: Annotated[Literal["csv", "jsonl"], typer.Option("--format", help="csv, or a JSON object per line.")] = "jsonl",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of standard output.", show_default=False)
    ] = None,
    totals: Annotated[
        Path | None,
        typer.Option("--totals", help="Also write totals for the yearly report to this JSON file.", show_default=False),
    ] = None,
) -> None:
    """Statements of reasons for the EU's DSA Transparency Database: one for each block in effect, machine's or person's.

    Field names and values are those of the database's API. Before anything is written, the policy is checked: each rule that
    blocked something needs `dsa:`. The same block has the same `puid` in every export.

    Example: `moderate export dsa --results results --policy policy.yaml --since 2026-01-01 --format csv -o statements.csv`
    """
    from moderation.commands.stored_results import moment
    from moderation.console.dsa import show_totals, write_totals
    from moderation.dsa.blocks import Blocks
    from moderation.dsa.statements import statement
    from moderation.dsa.totals import totals as count
    from moderation.dsa.writing import write
    from moderation.policy_files.loading import load_policy
    from moderation.query.connection import connect

    now = datetime.now(UTC)
    period = (moment(since, now), moment(until, now, "--until") if until is not None else now)
    if period[0] >= period[1]:
        raise SettingsError("--until: the period ends before it begins")
    found = load_policy(policy)
    with connect(results) as connection:
        blocks = Blocks(connection, found, *period)
        blocks.check()
        counted = count(connection, blocks)
        with _opened(output) as out:
            write((statement(row, said) for row in blocks.rows() if (said := blocks.of(row["rule"])) is not None), out, form)
    if totals is not None:
        write_totals(counted, totals)
    show_totals(counted, output)


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears under its name when it is complete."""
    if path is None:
        yield sys.stdout
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="") as out:
            yield out
        partial.replace(path)
    except OSError as error:
        raise SettingsError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    finally:
        partial.unlink(missing_ok=True)

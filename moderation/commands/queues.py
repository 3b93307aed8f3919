"""The `moderate queues` commands: check, show, schema."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from moderation.errors import SettingsError

queues_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Queues of images for people to review.",
)


@queues_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The file of queues.", show_default=False)],
    output: Annotated[Literal["text", "json", "github"], typer.Option("--format", help="github: annotations in CI.")] = "text",
) -> None:
    """Report every mistake in FILE at once, with its line and what to write instead.

    Also checks conditions with DuckDB, and reads the known answers that the file names. Exit code 1 if there are mistakes.

    Example: `moderate queues check queues.yaml`
    """
    from moderation.common.findings import as_github
    from moderation.common.findings import as_json as findings_json
    from moderation.console.queues import show_checked
    from moderation.queues.queue_file import read_queues

    read = read_queues(file)
    if output == "json":
        typer.echo(findings_json(read.findings))
    elif output == "github":
        typer.echo(as_github(read.findings), nl=bool(read.findings))
    else:
        show_checked(str(file), read)
    if read.content is None:
        raise typer.Exit(1)


@queues_app.command()
def show(
    file: Annotated[Path | None, typer.Argument(help="The file of queues; default: the built-in queues.")] = None,
    results: Annotated[
        str | None,
        typer.Option("--results", "-r", help="Also show what waits: the output of runs, a folder or URI.", show_default=False),
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", help="Show the first images of this queue.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=10_000, help="How many images.")] = 20,
    after: Annotated[int, typer.Option("--after", min=0, help="Start behind this position.")] = 0,
    reviewer: Annotated[
        str | None,
        typer.Option("--reviewer", help="As this person sees it: without what they reviewed.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show the queues of FILE, and with `--results` what waits in them and why.

    Example: `moderate queues show queues.yaml --results results --queue weapons`
    """
    from moderation.console import queues as queues_console
    from moderation.queues.backlog import backlog
    from moderation.queues.opening import opened_queues
    from moderation.queues.queue_file import load_queues

    if results is None:
        if queue or reviewer:
            raise SettingsError(f"{'--queue' if queue else '--reviewer'} needs --results, the output of runs")
        queues_console.show_queues(load_queues(file), as_json=as_json)
        return
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    with opened_queues(results, file) as opened:
        if queue is not None:
            with opened.open(queue) as one:
                queues_console.show_page(one.queue, one.page(after, n, reviewer), one.count(), as_json=as_json)
            return
        waiting = []
        for each in opened.file.queues:
            with opened.open(each.name) as ready:
                waiting.append(backlog(ready, now))
        queues_console.show_backlogs(waiting, opened.left_out(), as_json=as_json)


@queues_app.command()
def schema() -> None:
    """Print the JSON Schema of a file of queues, for completion in editors."""
    from moderation.queues.queue_file import queues_schema

    typer.echo(json.dumps(queues_schema(), indent=2))

"""`moderate runs`: list and inspect runs, release or discard quarantined ones, and remove old ones."""

import re
from datetime import timedelta
from typing import Annotated, Any

import typer

from moderation.errors import OutputError, SettingsError, StorageError

runs_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="List, replay, release, discard and clean up runs."
)

Results = Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The name of a run.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


@runs_app.command("list")
def list_runs(
    results: Results,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array with an object per run.")] = False,
    page: Annotated[
        bool,
        typer.Option("--page", help="Also write a page beside the reports, reports/index.html, that links to all of them."),
    ] = False,
) -> None:
    """List all runs, newest first: state, counts, duration, images per second, checks."""
    from moderation.console.runs import show_runs
    from moderation.results.runs import all_runs

    store = _store(results)
    runs = all_runs(store)
    show_runs(runs, as_json)
    if page:
        from moderation.report.run_list import KEY, run_list_page

        try:
            store.put(KEY, run_list_page(runs, store.uri).encode())
        except StorageError as error:
            raise OutputError(f"cannot write to {store.uri}: {error.detail}") from None
        typer.echo(f"written: {store.uri_of(KEY)}", err=True)


@runs_app.command()
def show(run: RunId, results: Results) -> None:
    """Show one run: its inputs, what happened to the objects, its checks, and the path of its report."""
    from moderation.console.runs import show_run
    from moderation.results.runs import find_run

    store = _store(results)
    show_run(find_run(store, run), store)


@runs_app.command()
def release(
    run: RunId,
    results: Results,
    reason: Annotated[str, typer.Option("--reason", help="Why the run may be published although checks failed.")],
    by: Annotated[str, typer.Option("--by", help="Name of the person who decides this.")],
) -> None:
    """Publish a quarantined run anyway. The reason and your name are stored in its manifest."""
    from moderation.results.runs import find_run
    from moderation.results.runs import release as publish

    if not reason.strip() or not by.strip():
        raise SettingsError("give --reason and --by (your name): both are stored with the run")
    store = _store(results)
    publish(store, find_run(store, run), reason.strip(), by.strip())
    typer.echo(f"{run} is published: {store.uri_of(f'runs/{run}.json')}")


@runs_app.command()
def discard(run: RunId, results: Results, yes: Yes = False) -> None:
    """Remove a run that was never published: quarantined or abandoned."""
    from moderation.results.runs import discard as remove
    from moderation.results.runs import find_run

    store = _store(results)
    found = find_run(store, run)
    if found.state != "published":
        _confirm(f"permanently remove the {found.state} run {run}?", yes)
    remove(store, found)
    typer.echo(f"removed {run}")


@runs_app.command()
def clean(results: Results, yes: Yes = False) -> None:
    """Remove files that belong to no run, left by crashes and interrupted removals. Shows them first."""
    from moderation.console.runs import shown_keys, size
    from moderation.results.retention import leftovers, remove

    store = _store(results)
    found = leftovers(store)
    if not found.keys:
        typer.echo("nothing to remove")
        return
    for line in shown_keys(found.keys):
        typer.echo(line)
    _confirm(f"remove these {len(found.keys):,} files ({size(found.bytes)}), which belong to no run?", yes)
    remove(store, found.keys)
    typer.echo(f"{len(found.keys):,} files removed")


@runs_app.command()
def prune(
    results: Results,
    older_than: Annotated[str, typer.Option("--older-than", help="Age of the runs to remove: 90d, 12w or 2y.")],
    keep_embeddings: Annotated[
        bool,
        typer.Option(
            "--keep-embeddings", help="Keep the embeddings, from which scores can be computed again without the images."
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove old published runs: their decisions, scores and reports, and their embeddings unless kept.

    Without `--yes`, only shows what would be removed. The next run processes objects again whose only decisions were removed.
    """
    from moderation.console.runs import pruned_bytes, size
    from moderation.results.retention import expired
    from moderation.results.retention import prune as remove

    store = _store(results)
    runs = expired(store, _age(older_than))
    for run in runs:
        typer.echo(f"{run.run_id}  {size(pruned_bytes(run, keep_embeddings))}")
    total = size(sum(pruned_bytes(run, keep_embeddings) for run in runs))
    if not yes:
        typer.echo(f"{len(runs):,} runs, {total}, would be removed; to remove them, add --yes")
        return
    for run in runs:
        remove(store, run, keep_embeddings)
    typer.echo(f"{len(runs):,} runs, {total}, removed")


def _store(results: str) -> Any:
    from moderation.errors import OutputError, StorageError
    from moderation.storage import Store

    try:
        return Store(results)
    except StorageError as error:
        raise OutputError(f"cannot read the results at {results!r}: {error.detail}") from None


def _confirm(question: str, yes: bool) -> None:
    if not yes and not typer.confirm(question):
        raise SettingsError("nothing was removed")


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})([dwy])", text.strip().lower())
    if found is None:
        raise SettingsError(f"--older-than: {text!r} is not an age: give days, weeks or years, such as 90d, 12w or 2y")
    return int(found[1]) * timedelta(days={"d": 1, "w": 7, "y": 365}[found[2]])

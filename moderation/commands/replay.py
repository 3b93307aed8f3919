"""`moderate runs replay`: do the stored decisions follow from the stored embeddings?"""

from typing import Annotated, Any

import typer

from moderation.errors import OutputError, SettingsError, StorageError


def replay(
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.")],
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The name of a run, published or quarantined.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Replay every published run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Recompute the decisions and scores of RUN from its manifest and embeddings, and report any difference.

    Needs no images, and needs the model only for old runs that stored no prompt embeddings. Compares scores bit for bit, and
    verifies the files, sums and identities in the manifest. Exit code 1 if anything differs.
    """
    from moderation.console.replay import Shown
    from moderation.studies.replay.replaying import replay_all, replay_run

    if (run is None) != every:
        raise SettingsError(
            "name one run to replay, or give --all" if run is None else "give either the name of a run or --all"
        )
    store = _store(results)
    shown = Shown(as_json=as_json, several=every)
    for found in replay_all(store) if run is None else [replay_run(store, run)]:
        shown.take(found)
    shown.end()
    if not shown.identical:
        raise typer.Exit(1)


def _store(results: str) -> Any:
    from moderation.storage import Store

    try:
        return Store(results)
    except StorageError as error:
        raise OutputError(f"cannot read the results at {results!r}: {error.detail}") from None

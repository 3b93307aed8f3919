"""`moderate reviews`: what people decided, to and from the files of other tools; compaction; appeals."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.errors import OutputError, SettingsError, StorageError
from moderation.exchange.formats import Format

if TYPE_CHECKING:
    from moderation.storage import Store

reviews_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="What people decided about images.")

Results = Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@reviews_app.command("list")
def list_reviews(
    results: Results,
    image: Annotated[
        str | None, typer.Option("--image", help="Only reviews of this image: its URI or SHA-256.", show_default=False)
    ] = None,
    reviewer: Annotated[str | None, typer.Option("--reviewer", help="Only reviews of this person.", show_default=False)] = None,
    rule: Annotated[str | None, typer.Option("--rule", help="Only reviews about this rule.", show_default=False)] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", help="Only reviews from this queue.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only reviews since: 30d, 12w, 2026-11-21.", show_default=False)
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Also reviews that a later one replaced.")] = False,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """List reviews, newest first: those that count, or with `--history` all.

    Example: `moderate reviews list --results results --reviewer ann --since 7d`
    """
    from moderation.console.reviews import show_reviews
    from moderation.exchange.listing import Filter
    from moderation.exchange.listing import list_reviews as found
    from moderation.query import connect

    chosen = Filter(image=image, reviewer=reviewer, rule=rule, queue=queue, since=_since(since), history=history)
    with connect(results) as connection:
        show_reviews(found(connection, chosen, n), as_json=as_json)


@reviews_app.command()
def export(
    results: Results,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    queue: Annotated[
        str, typer.Option("--queue", "-q", help="Which queue; open appeals are in the queue `appeals`.")
    ] = "review",
    file_format: Annotated[Format, typer.Option("--format", help="For a spreadsheet, Label Studio or FiftyOne.")] = Format.CSV,
    n: Annotated[int | None, typer.Option("--n", "-n", min=1, help="At most this many images.", show_default=False)] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Leave out what the machine and other people said.")] = False,
) -> None:
    """Write the images of a queue to a file, for people to review in another tool. `moderate reviews import` reads it back.

    Files for Label Studio and FiftyOne show images; those on a restricted hash list are left out. For Label Studio, the
    labeling interface is written beside the file, as `.xml`.

    Example: `moderate reviews export --results results --queue review --format label-studio --output tasks.json`
    """
    from moderation.console.reviews import show_exported
    from moderation.exchange.exporting import export_queue
    from moderation.query import connect

    with connect(results) as connection:
        exported = export_queue(connection, queue, file_format, n, blind=blind)
    for path, data in ((output, exported.data), (output.with_suffix(".xml"), exported.interface)):
        if data is not None:
            _write(path, data)
    show_exported(exported, output)


@reviews_app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="What came back: CSV, JSON of Label Studio, or JSON of FiftyOne.", show_default=False)
    ],
    results: Results,
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Default: as the file looks.", show_default=False)
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", help="Who reviewed, where the file does not say.", show_default=False)
    ] = None,
    verdicts_only: Annotated[
        bool, typer.Option("--verdicts-only", help="Record verdicts about rules, and change no image's action.")
    ] = False,
    trial: Annotated[bool, typer.Option("--dry-run", help="Report what would be added, and write nothing.")] = False,
) -> None:
    """Add the reviews in FILE. Everything that cannot be used is reported with its lines; importing a file again adds nothing.

    Example: `moderate reviews import reviewed.csv --results results --reviewer ann`
    """
    from moderation.console.reviews import show_imported
    from moderation.exchange.importing import format_of, import_reviews

    found = import_reviews(
        results,
        file,
        file_format or format_of(file),
        reviewer=reviewer,
        verdicts_only=verdicts_only,
        trial=trial,
    )
    show_imported(found, trial=trial)
    if found.left_out:
        sys.exit(1)


@reviews_app.command()
def compact(
    results: Results,
    keep: Annotated[
        int,
        typer.Option("--keep-minutes", min=0, help="How long replaced files stay, for queries that are reading them."),
    ] = 60,
) -> None:
    """Merge the many small files of reviews and appeals into few. No row is lost, whenever it is stopped.

    Files that were merged stay for an hour; the next compaction removes them. Run it daily.
    """
    from moderation.console.reviews import show_compacted
    from moderation.reviews.appeal import APPEALS
    from moderation.reviews.appeal import FOLDER as APPEALS_FOLDER
    from moderation.reviews.compaction import compact as compacted
    from moderation.reviews.schema import REVIEWS
    from moderation.reviews.store import FOLDER

    store, kept = _store(results), timedelta(minutes=keep)
    found = compacted(store, FOLDER, REVIEWS, "review_id", kept)
    show_compacted(found + compacted(store, APPEALS_FOLDER, APPEALS, "appeal_id", kept))


@reviews_app.command()
def appeal(
    file: Annotated[Path, typer.Argument(help="Appeals: a CSV file, or JSON that a webhook received.", show_default=False)],
    results: Results,
) -> None:
    """Add the appeals in FILE: their images come back for review, in the queue `appeals`, with what the appeal says.

    Columns or keys are `uri` and `text`, and perhaps `appellant`, `reference` (the appeal's number elsewhere), `filed_at` and
    `sha256`. A review of the image from that queue closes the appeal.

    Example: `moderate reviews appeal appeals.csv --results results`
    """
    from moderation.console.reviews import show_appeals
    from moderation.exchange.appealing import import_appeals

    found = import_appeals(results, file)
    show_appeals(found)
    if found.remarks:
        sys.exit(1)


def _since(since: str | None) -> datetime | None:
    from moderation.commands.stored_results import moment

    return None if since is None else moment(since, datetime.now(UTC))


def _store(results: str) -> "Store":
    from moderation.storage import Store

    try:
        return Store(results)
    except StorageError as error:
        raise SettingsError(f"cannot read results in {results!r}: {error.detail}") from None


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None

"""The `moderate lists` commands: check, info, add, match, fetch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from moderation.lists.reading import ReadList

lists_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Lists of hashes of known images.",
)

_File = Annotated[Path, typer.Argument(help="The list file.", show_default=False)]
_Hash = Annotated[Literal["pdq", "sha256", "md5"], typer.Option("--hash", help="What the list holds.", show_default=False)]
_Quality = Annotated[int, typer.Option("--min-quality", min=0, max=100, help="PDQ entries of a lower quality are errors.")]


@lists_app.command()
def check(
    file: _File,
    kind: _Hash,
    min_quality: _Quality = 50,
    output: Annotated[Literal["text", "json", "github"], typer.Option("--format", help="github: annotations in CI.")] = "text",
) -> None:
    """Report every mistake in FILE, and what is odd in it, each with its line and column.

    Exit code 1 if there are mistakes; warnings do not count.

    Example: `moderate lists check lists/known.csv --hash pdq`
    """
    from moderation.common.findings import as_github
    from moderation.common.findings import as_json as findings_json
    from moderation.console.lists import show_checked

    found = _read(file, kind, min_quality)
    findings = [*found.errors, *found.warnings]
    if output == "json":
        typer.echo(findings_json(findings))
    elif output == "github":
        typer.echo(as_github(findings), nl=bool(findings))
    else:
        show_checked(str(file), found)
    if found.content is None:
        raise typer.Exit(1)


@lists_app.command()
def info(file: _File, kind: _Hash, min_quality: _Quality = 50) -> None:
    """Show what FILE holds: entries, labels, what is left out and why, and the hash of its content.

    Example: `moderate lists info lists/known.csv --hash pdq`
    """
    from moderation.console.lists import show_checked, show_info

    found = _read(file, kind, min_quality)
    if found.content is None:
        show_checked(str(file), found)
        raise typer.Exit(1)
    show_info(found.content, found)


@lists_app.command()
def add(
    file: Annotated[Path, typer.Argument(help="The list file; one that does not exist is made.", show_default=False)],
    entries: Annotated[list[str], typer.Argument(help="Hashes in hex digits, or images: paths or URIs.", show_default=False)],
    kind: _Hash,
    label: Annotated[str, typer.Option("--label", help="What the list says of the entries, such as a case number.")] = "",
    min_quality: _Quality = 50,
) -> None:
    """Add hashes to FILE, or those of images, in the layout that the file has. An entry that is there already is refused.

    Example: `moderate lists add lists/known.csv photo.jpg --hash pdq --label "case 17"`
    """
    from moderation.authoring.list_entries import add_entries, entry_of
    from moderation.console.lists import show_added
    from moderation.lists.hash_list import HashKind

    chosen = HashKind(kind)
    new = [entry_of(given, chosen, label, min_quality) for given in entries]
    show_added(str(file), new, add_entries(file, chosen, new, min_quality))


@lists_app.command()
def match(
    file: _File,
    kind: _Hash,
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    distance: Annotated[int, typer.Option("--distance", min=0, max=64, help="Bits of a PDQ that may differ.")] = 31,
    min_quality: _Quality = 50,
    turned: Annotated[bool, typer.Option("--turned", help="Match turned and mirrored pictures as well (PDQ).")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Only images of runs since: 30d, 12w, 2026-11-21.", show_default=False)
    ] = None,
    output: Annotated[
        Literal["table", "csv", "jsonl"], typer.Option("--format", help="csv and jsonl: every match, a row each.")
    ] = "table",
) -> None:
    """Match FILE against all images that published runs have seen, by their stored hashes. No image is read, and none is shown.

    Rows come as they are found. Exit code 0, matches or not.

    Example: `moderate lists match lists/new.csv --hash pdq --results s3://moderation/results`
    """
    from datetime import UTC, datetime

    from moderation.authoring.list_entries import read_file
    from moderation.commands.stored_results import moment
    from moderation.console.backtest import interruptible, progress_shown
    from moderation.console.lists import print_matches, show_checked
    from moderation.lists.hash_list import HashKind
    from moderation.lists.matching import MatchSettings
    from moderation.results.archive import open_archives
    from moderation.storage import Store
    from moderation.studies.list_matching.matched_images import History, match_history

    chosen = HashKind(kind)
    read = read_file(file, chosen, min_quality)
    if read.content is None:
        show_checked(str(file), read)
        raise typer.Exit(1)
    settings = MatchSettings(file.stem, chosen, distance if chosen is HashKind.PDQ else 0, min_quality, turned)
    start = moment(since, datetime.now(UTC)) if since is not None else None
    with interruptible(), progress_shown():
        archives = open_archives(Store(results), since=start)
        found = History()
        print_matches(match_history(archives, read.content, settings, found), found, output)


@lists_app.command()
def fetch(
    file: Annotated[
        Path, typer.Argument(help="Where to write the list; a list that is there is replaced.", show_default=False)
    ],
    kind: _Hash,
    group: Annotated[str, typer.Option("--group", help="The number of the privacy group.", show_default=False)],
    url: Annotated[
        str | None, typer.Option("--url", help="Where the API is; by default ThreatExchange at Meta.", show_default=False)
    ] = None,
) -> None:
    """Fetch the hashes of a ThreatExchange privacy group into FILE, as JSON with an entry a line.

    The access token comes from the environment variable TX_ACCESS_TOKEN. FILE is replaced only if everything was fetched and
    is a list without mistakes.

    Example: `moderate lists fetch lists/exchange.json --hash pdq --group 1234567890`
    """
    from moderation.authoring.fetching import fetch_list
    from moderation.authoring.threat_updates import URL
    from moderation.console.lists import show_checked
    from moderation.lists.hash_list import HashKind

    found = fetch_list(file, HashKind(kind), group, url or URL)
    show_checked(str(file), found)
    if found.content is None:
        raise typer.Exit(1)


def _read(file: Path, kind: str, min_quality: int) -> "ReadList":
    from moderation.authoring.list_entries import read_file
    from moderation.lists.hash_list import HashKind

    return read_file(file, HashKind(kind), min_quality)

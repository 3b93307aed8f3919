"""The `moderate lists` commands: check, info."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moderation.errors import SettingsError

if TYPE_CHECKING:
    from moderation.lists.hash_list import HashKind
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


def _read(file: Path, kind: "HashKind | str", min_quality: int) -> "ReadList":
    from moderation.lists.hash_list import HashKind
    from moderation.lists.reading import read_list

    try:
        with file.open("rb") as stream:
            return read_list(stream, str(file), HashKind(kind), min_quality)
    except OSError as error:
        raise SettingsError(f"cannot read {str(file)!r}: {(error.strerror or str(error)).lower()}") from None

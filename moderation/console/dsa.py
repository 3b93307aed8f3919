"""What `moderate export dsa` prints, beside the statements."""

import json
from dataclasses import asdict
from pathlib import Path

import typer

from moderation.dsa.totals import Totals
from moderation.errors import SettingsError


def show_totals(totals: Totals, output: Path | None) -> None:
    """Some lines on standard error."""
    where = f" written to {output}" if output is not None else ""
    typer.echo(f"{totals.statements:,} statement{'' if totals.statements == 1 else 's'} of reasons{where}", err=True)
    for name, counts in (("category", totals.by_category), ("decision", totals.by_automated_decision)):
        for value, number in counts.items():
            typer.echo(f"  {name} {value}: {number:,}", err=True)
    if totals.automated_blocks:
        typer.echo(
            f"  the machine blocked {totals.automated_blocks:,}; people decided {totals.automated_blocks_reviewed:,} of them, "
            f"and overturned {totals.automated_blocks_overturned:,}",
            err=True,
        )


def write_totals(totals: Totals, path: Path) -> None:
    """As JSON. Raises `SettingsError`."""
    try:
        path.write_text(json.dumps(asdict(totals), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None

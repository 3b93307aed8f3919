"""What `moderate search` prints: a table for people, CSV for spreadsheets, JSON for programs."""

import csv
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.console.terminal import print_whole
from moderation.studies.search.nearest import SearchResult

_OUT = Console(highlight=False)
_STYLE = {"review": "yellow", "block": "red"}


def show_found(result: SearchResult) -> None:
    """Nearest first, with the newest decision on each."""
    frames = any(one.frame for one in result.found)
    table = Table()
    table.add_column("score", justify="right", no_wrap=True)
    if frames:
        table.add_column("frame", justify="right", no_wrap=True)
    table.add_column("action", no_wrap=True)
    table.add_column("flags", overflow="fold")
    table.add_column("alike", justify="right", no_wrap=True)
    table.add_column("image", no_wrap=True)
    for one in result.found:
        style = _STYLE.get(one.action)
        cells = [f"{one.score:.3f}"]
        cells += [str(one.frame)] if frames else []
        cells += [f"[{style}]{one.action}[/]" if style else escape(visible(one.action))]
        cells += [escape(visible(", ".join(one.flags))), f"{one.alike:,}" if one.alike else ""]
        table.add_row(*cells, escape(visible(one.uri)))
    if result.found:
        print_whole(table)
    message = "no match in" if not result.found else f"the nearest {len(result.found):,} of"
    if result.restricted:
        _line(f"{result.restricted:,} images are on a restricted hash list and were not searched")
    _line(f"{message} {result.images:,} images, by {result.archive.model} ({result.archive.fingerprint})")


def print_csv(result: SearchResult) -> None:
    """RFC 4180, every text in quotes. No cell begins as a formula would: URIs begin with a scheme, and rules with a letter."""
    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(["rank", "score", "uri", "frame", "action", "flags", "alike"])
    for rank, one in enumerate(result.found, 1):
        writer.writerow([rank, one.score, one.uri, one.frame, one.action, " ".join(one.flags), one.alike])


def print_json(result: SearchResult) -> None:
    """A JSON array, nearest first. ASCII only, so that no name can harm the terminal."""
    rows = [
        {
            "rank": rank,
            "score": one.score,
            "uri": one.uri,
            "frame": one.frame,
            "action": one.action,
            "flags": list(one.flags),
            "alike": one.alike,
        }
        for rank, one in enumerate(result.found, 1)
    ]
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


def show_written(path: Path) -> None:
    """The path of a page; on stderr, so that `--json` stays JSON."""
    Console(stderr=True).print(f"written: {visible(str(path))}", markup=False, highlight=False, soft_wrap=True)


def _line(text: str) -> None:
    _OUT.print(visible(text), markup=False, highlight=False, soft_wrap=True)

"""What `moderate lists` prints."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.console.terminal import print_whole
from moderation.lists.adding import NewEntry
from moderation.lists.hash_list import HashList
from moderation.lists.reading import ReadList
from moderation.lists.turned import TURNS
from moderation.studies.list_matching.matched_images import History, MatchedImage

_MOST_LABELS = 20


def show_checked(name: str, found: ReadList) -> None:
    """Findings, and a last line that counts them."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in [*found.errors, *found.warnings]:
        console.print(str(finding), markup=False)
    if found.unshown:
        console.print(f"and {found.unshown:,} more warnings", markup=False)
    warnings = len(found.warnings) + found.unshown
    counted = [_counted(warnings, "warning")] if warnings else []
    if found.content is None:
        counted = [_counted(len(found.errors), "error"), *counted]
    else:
        counted = [f"{len(found.content):,} {found.content.kind.shown} entries", *counted]
    console.print(f"{visible(name)}: {', '.join(counted)}", markup=False)


def show_info(content: HashList, found: ReadList) -> None:
    """A table of what the list holds."""
    table = Table(show_header=False, box=None)
    table.add_row("kind", content.kind.shown)
    table.add_row("entries", f"{len(content):,}")
    table.add_row("content", content.digest[:16])
    table.add_row("duplicates left out", f"{found.duplicates:,}")
    for name, count in list(found.other_kinds.items())[:_MOST_LABELS]:
        table.add_row(f"of type {visible(name)}, left out", f"{count:,}")
    for why, count in found.withdrawn.items():
        table.add_row(f"withdrawn ({why}), left out", f"{count:,}")
    labels = Counter({pair["values"]: pair["counts"] for pair in content.labels.value_counts().to_pylist()})
    labels.pop("", None)
    for label, count in labels.most_common(_MOST_LABELS):
        table.add_row(f"label {visible(label)}", f"{count:,}")
    if len(labels) > _MOST_LABELS:
        table.add_row("other labels", f"{len(labels) - _MOST_LABELS:,}")
    Console(highlight=False, markup=False, soft_wrap=True).print(table)


def show_added(name: str, entries: Sequence[NewEntry], total: int) -> None:
    """What was added, a line each."""
    console = Console(highlight=False, soft_wrap=True)
    for entry in entries:
        quality = "" if entry.quality is None else f"  quality {entry.quality}"
        console.print(f"{entry.hash}{quality}", markup=False)
    added = f"added {len(entries):,} {'entry' if len(entries) == 1 else 'entries'}"
    console.print(f"{visible(name)}: {added}, {total:,} now", markup=False)


def print_matches(matches: Iterable[MatchedImage], found: History, output: str) -> None:
    """Matches as they come: a table of the first ones, or all of them as CSV or JSON lines; then the sums, on stderr."""
    if output == "table":
        table = Table()
        for column in ("distance", "action", "entry", "image"):
            table.add_column(column, no_wrap=True, justify="right" if column == "distance" else "left")
        for number, one in enumerate(matches):
            if number < _MOST_MATCHES:
                label = f" {visible(one.match.label)}" if one.match.label else ""
                frame = f" (frame {one.match.frame})" if one.match.frame else ""
                cells = (f"{one.match.distance}", one.action, f"{one.match.entry[:16]}{label}", f"{visible(one.uri)}{frame}")
                table.add_row(*map(escape, cells))
        if table.row_count:
            print_whole(table)
    else:
        rows = (_plain(one) for one in matches)
        if output == "csv":
            writer = csv.DictWriter(sys.stdout, _COLUMNS, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        else:
            for row in rows:
                sys.stdout.write(json.dumps(row) + "\n")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if output == "table" and found.matched > _MOST_MATCHES:
        console.print(f"the first {_MOST_MATCHES:,} are shown; --format csv prints all")
    console.print(f"{found.matched:,} of {found.images:,} images match, with {len(found.entries):,} entries", markup=False)
    if found.unknown:
        console.print(
            f"{found.unknown:,} images were not matched: their hash is not stored; docs/lists.md says why", markup=False
        )


_MOST_MATCHES = 100
_COLUMNS = ("uri", "etag", "run_id", "policy", "action", "entry", "label", "distance", "frame", "turn", "entries")


def _plain(one: MatchedImage) -> dict[str, str | int | None]:
    found = one.match
    turn = None if found.turn == TURNS[0] else found.turn
    values = (
        one.uri,
        one.etag,
        one.run_id,
        one.policy,
        one.action,
        found.entry,
        found.label,
        found.distance,
        found.frame,
        turn,
    )
    return dict(zip(_COLUMNS, (*values, found.entries), strict=True))


def _cell(value: str | int | None) -> str | int | None:
    """A label that begins as a formula does is text to a spreadsheet with a quote before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

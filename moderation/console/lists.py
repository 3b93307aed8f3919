"""What `moderate lists` prints."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.lists.hash_list import HashList
from moderation.lists.reading import ReadList

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


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

"""What `moderate reviews` prints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.exchange.appealing import ImportedAppeals
from moderation.exchange.exporting import Exported
from moderation.exchange.importing import Imported
from moderation.labels.label_file import Remark
from moderation.reviews.compaction import Compacted

_OUT = Console(highlight=False)
_SHOWN_LINES = 10
_COLUMNS = ("decided_at", "reviewer", "verdict", "action", "rule", "reason", "note", "uri")


def show_reviews(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Reviews as a table or as JSON."""
    if as_json:
        _OUT.file.write(json.dumps(rows, default=str, ensure_ascii=False, indent=1) + "\n")
        return
    if not rows:
        _line("no reviews")
        return
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, overflow="fold")
    for row in rows:
        cells = {**row, "decided_at": f"{row['decided_at']:%Y-%m-%d %H:%M}", "rule": row["rule"] or "the whole image"}
        table.add_row(*(visible(str(cells[name] or "")) for name in _COLUMNS))
    _OUT.print(table, markup=False)


def show_exported(exported: Exported, path: Path) -> None:
    """What was written, and what was not."""
    _line(f"{_counted(exported.images, 'image')} of the queue {exported.queue} written to {path}")
    if exported.interface is not None:
        _line(f"the labeling interface for the project's settings: {path.with_suffix('.xml')}")
    if exported.restricted:
        _line(
            f"! {_counted(exported.restricted, 'image')} left out: on a restricted hash list, nothing of them may be shown",
            "yellow",
        )


def show_imported(found: Imported, *, trial: bool) -> None:
    """What became of a file."""
    new, file = len(found.judged.reviews), found.file
    _line(f"{_counted(file.rows, file.unit)}: {_counted(new, 'new review')}{', none of them written' if trial and new else ''}")
    for count, what in ((found.judged.known, "known already"), (file.open, "without a verdict"), (found.left_out, "left out")):
        if count:
            _line(f"{count:,} {what}")
    _show_remarks(found.remarks, file.unit)


def show_appeals(found: ImportedAppeals) -> None:
    """What became of a file of appeals."""
    file = found.file
    _line(f"{_counted(file.rows, file.unit)}: {_counted(len(found.appeals), 'new appeal')} in the queue appeals")
    if found.known:
        _line(f"{found.known:,} known already")
    _show_remarks(found.remarks, file.unit)


def show_compacted(found: Compacted) -> None:
    """What a compaction did."""
    if found == Compacted():
        _line("nothing to merge")
        return
    _line(f"{_counted(found.merged, 'file')} merged into {found.written:,}, {found.removed:,} replaced files removed")
    if found.kept or found.merged:
        _line(f"{found.kept + found.merged:,} replaced files stay for queries that are reading them; compact again later")


def _show_remarks(remarks: Sequence[Remark], unit: str) -> None:
    for remark in remarks:
        lines = ", ".join(f"{line:,}" for line in remark.lines[:_SHOWN_LINES])
        more = f" and {len(remark.lines) - _SHOWN_LINES:,} more" if len(remark.lines) > _SHOWN_LINES else ""
        _line(f"! {remark} [{unit} {lines}{more}]", "yellow" if remark.outcome == "left out" else "")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _line(text: str, style: str = "") -> None:
    _OUT.print(visible(text), markup=False, soft_wrap=True, style=style)

"""The queue as CSV for a spreadsheet, and the same file filled in. Pure.

Written as RFC 4180 with a byte order mark, by which Excel sees that it is UTF-8, and every text in quotes. What a spreadsheet
would run as a formula gets an apostrophe, which is taken off again when the file is read.
"""

import csv
import io
from collections.abc import Iterable
from difflib import get_close_matches

from moderation.common.safe_text import visible
from moderation.common.spreadsheets import defused, restored
from moderation.errors import SettingsError
from moderation.exchange.queue_item import QueueItem
from moderation.exchange.said import (
    ReviewFile,
    Said,
    Troubles,
    action_of,
    hash_of,
    moment_of,
    rule_of,
    selection_of,
    verdict_of,
    weight_of,
)
from moderation.labels.label_file import Remark
from moderation.labels.labels_table import Columns, Table
from moderation.reviews.review import Source

TO_FILL = ("verdict", "action", "reason", "note", "reviewer")
SHOWN = ("category", "machine_action", "score", "threshold", "policy", "suggestion", "appeal_text", "last_note")
KEPT = ("uri", "rule", "sha256", "run_id", "queue", "selection", "weight", "appeal_id", "blind")
COLUMNS = (*KEPT[:2], *TO_FILL, *SHOWN, *KEPT[2:])
"""Of the exported file, in order: which image, what to fill in, what to look at, what the import needs again."""

_READ = Columns((*KEPT, *TO_FILL, "label", "decided_at", "opened_at"), ("uri",), (*SHOWN, "stratum"))


def write_csv(items: Iterable[QueueItem]) -> bytes:
    """The queue, to be filled in."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for item in items:
        cells = {**dict.fromkeys(TO_FILL, ""), **{name: getattr(item, name) for name in (*KEPT, *SHOWN)}}
        writer.writerow([_cell(cells[name]) for name in COLUMNS])
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8", "surrogatepass")


def read_csv(data: bytes, name: str) -> ReviewFile:
    """The reviews in a CSV file: an exported queue that was filled in, a label file, or a table with a column `uri`.

    Commas, semicolons, tabs or bars part the columns, in UTF-8, UTF-16 or Windows-1252. A row with neither verdict nor action
    is open. A label file is one with the column `label` and neither of these two.

    Raises:
        SettingsError: it is no such table.
    """
    table = Table(data, name, _READ)
    if not {"verdict", "label", "action"} - set(table.missing):
        raise SettingsError(
            f"{visible(name)}:1: there is no column `verdict`, `label` or `action`: nothing says what people saw"
        )
    troubles, said, rows, unanswered = Troubles(), list[Said](), 0, 0
    for line, cells in table:
        rows += 1
        if isinstance(cells, str):
            troubles.add(cells, line)
            continue
        try:
            found = _row(line, {column: restored(cell) for column, cell in cells.items()}, table.delimiter)
        except ValueError as error:
            troubles.add(str(error), line)
            continue
        if found is None:
            unanswered += 1
        else:
            said.append(found)
    labels = {"verdict", "action"} <= set(table.missing)
    source = Source.LABEL_SHEET if labels else Source.CSV
    return ReviewFile(name, source, "line", rows, tuple(said), unanswered, (*troubles.remarks, *_about(table)))


def _row(line: int, cells: dict[str, str], delimiter: str) -> Said | None:
    """One row; None if nobody has answered it yet. Raises `ValueError`."""
    action = action_of(cells.get("action", ""))
    verdict = verdict_of(cells.get("verdict", "").strip() or cells.get("label", ""), action)
    if verdict is None:
        return None
    if not cells["uri"].strip():
        raise ValueError("`uri` is empty")
    return Said(
        line=line,
        uri=cells["uri"],
        sha256=hash_of(cells.get("sha256", "")),
        rule=rule_of(cells.get("rule", "")),
        verdict=verdict,
        action=action,
        reason=_text(cells, "reason"),
        note=_text(cells, "note"),
        reviewer=_text(cells, "reviewer"),
        opened_at=moment_of(cells.get("opened_at", ""), "opened_at"),
        decided_at=moment_of(cells.get("decided_at", "")),
        queue=_text(cells, "queue"),
        selection=selection_of(cells.get("selection", "")),
        weight=weight_of(_number(cells.get("weight", ""), delimiter)),
        run_id=_text(cells, "run_id"),
        appeal_id=_text(cells, "appeal_id"),
        blind=cells.get("blind", "").strip().lower() in ("true", "yes", "1"),
    )


def _text(cells: dict[str, str], name: str) -> str | None:
    return cells.get(name, "").strip() or None


def _number(text: str, delimiter: str) -> float | str | None:
    """What a spreadsheet wrote for a number; a text if it is none."""
    said = text.strip() if delimiter == "," else text.strip().replace(",", ".")
    try:
        return float(said) if said else None
    except ValueError:
        return said


def _about(table: Table) -> list[Remark]:
    """What whoever made the file should know about the whole of it."""
    remarks = []
    if table.ignored:
        names = ", ".join(f"`{visible(column)[:60]}`" for column in table.ignored[:10])
        meant = next(
            (f"; is {visible(c)[:60]!r} meant to be `{m[0]}`?" for c in table.ignored if (m := _close(c, table.missing))), ""
        )
        remarks.append(Remark(f"not read: the column{'s' * (len(table.ignored) > 1)} {names}{meant}", (1,), "counted"))
    if table.encoding:
        wording = f"not UTF-8: read as {table.encoding}, as {visible(table.strange)[:60]!r} shows"
        remarks.append(Remark(wording, (1,), "counted"))
    return remarks


def _close(column: str, missing: list[str]) -> list[str]:
    return get_close_matches(column, missing, n=1)


def _cell(value: str | float | bool | None) -> str | float:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else defused(value) if isinstance(value, str) else value

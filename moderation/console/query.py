"""What `moderate query` prints: a table for people, CSV for spreadsheets, JSON for programs, Parquet for the next step."""

import csv
import json
import math
import secrets
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TextIO

import duckdb
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from moderation.common.safe_text import visible
from moderation.common.spreadsheets import defused
from moderation.errors import OutputError
from moderation.query.connection import sql_errors

SHOWN = 50
"""Rows shown as a table."""
SHOWN_AS_RECORDS = 10
"""Rows shown as lists of fields, if the terminal is too narrow for a table."""
COUNTED = 100_000
"""Maximum number of further rows to count: counting takes as long as fetching."""
_LONGEST_CELL = 300
_LONGEST_FLOAT = 10
_NARROWEST = 14
_BATCH = 10_000
_AS_TEXT = {"interval", "blob", "bit", "bignum", "union", "time with time zone"}
"""Types that Python, JSON or Parquet lack; they are written as DuckDB's text."""


def show_table(result: duckdb.DuckDBPyRelation) -> None:
    """A table, or lists of fields on a narrow terminal; stops after `SHOWN` rows with a note."""
    console = Console(highlight=False)
    rows, more = _first_rows(result, SHOWN)
    names = [_shown(name) for name in _unique(result.columns)]
    cells = [[_cell(value) for value in row] for row in rows]
    if _least_width(names, cells) <= console.width:
        table = Table()
        for number, name in enumerate(names):
            justify: Literal["right", "left"] = "right" if any(_is_number(row[number]) for row in rows) else "left"
            whole = any(_is_uri(row[number]) for row in rows)
            table.add_column(name, justify=justify, overflow="fold", no_wrap=whole)
        for row in cells:
            table.add_row(*row)
        console.print(table)
    else:
        more += max(0, len(cells) - SHOWN_AS_RECORDS)
        for number, row in enumerate(cells[:SHOWN_AS_RECORDS], 1):
            console.print(f"row {number}", style="italic")
            indent = max(name.cell_len for name in names)
            for name, cell in zip(names, row, strict=True):
                padding = " " * (indent - name.cell_len + 1)
                console.print(Text.assemble((name.plain, "dim"), padding, cell), soft_wrap=True)
    if not rows:
        console.print("no rows")
    if more:
        about = f"{more:,}" if more < COUNTED else f"at least {COUNTED:,}"
        console.print(f"\u2026 and {about} more row{'' if more == 1 else 's'}: use --csv, --json or --parquet", soft_wrap=True)


def write_csv(result: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    """RFC 4180; an apostrophe defuses text that a spreadsheet would run as a formula. NULL is an empty cell."""
    writer = csv.writer(out)  # ends lines with CR LF, and so quotes cells with either
    writer.writerow([_defused(name) for name in _unique(result.columns)])
    for rows in _batches(result):
        writer.writerows([_defused(_text(value)) if isinstance(value, str) else _text(value) for value in row] for row in rows)


def write_json(result: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    """A JSON array with an object per row. Times are ISO 8601; NaN and infinities, which JSON does not know, are null."""
    names = _unique(result.columns)
    separator = "[\n"
    for rows in _batches(result):
        for row in rows:
            out.write(separator + _json(dict(zip(names, row, strict=True))))
            separator = ",\n"
    out.write("\n]\n" if separator.startswith(",") else "[]\n")


def write_parquet(result: duckdb.DuckDBPyRelation, path: Path) -> int:
    """Write the complete result or nothing; replaces an existing file. Returns the number of rows.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    count = 0
    try:
        try:
            with sql_errors():
                reader = _projected(result, for_parquet=True).to_arrow_reader(_BATCH)
                with open(partial, "xb") as file, pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
                    for batch in reader:
                        writer.write_batch(batch)
                        count += batch.num_rows
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {visible(str(path))}: {error.strerror or error}") from None
    return count


def _first_rows(result: duckdb.DuckDBPyRelation, wanted: int) -> tuple[list[tuple[Any, ...]], int]:
    rows: list[tuple[Any, ...]] = []
    more = 0
    for batch in _batches(result):
        taken = batch[: wanted - len(rows)]
        rows += taken
        more += len(batch) - len(taken)
        if more >= COUNTED:
            break
    return rows, more


def _batches(result: duckdb.DuckDBPyRelation) -> Iterator[list[tuple[Any, ...]]]:
    """The rows as Python values, some thousands at a time."""
    with sql_errors():
        for batch in _projected(result).to_arrow_reader(_BATCH):
            yield list(zip(*(column.to_pylist(maps_as_pydicts="strict") for column in batch.columns), strict=True))


def _projected(result: duckdb.DuckDBPyRelation, for_parquet: bool = False) -> duckdb.DuckDBPyRelation:
    columns = []
    for number, (name, kind) in enumerate(zip(_unique(result.columns), result.types, strict=True), 1):
        quoted = name.replace('"', '""')
        columns.append(f'{_expression(number, str(kind).lower(), for_parquet)} AS "{quoted}"')
    return result.project(", ".join(columns))


def _expression(number: int, kind: str, for_parquet: bool) -> str:
    if kind.partition("(")[0] in _AS_TEXT:
        return f"CAST(#{number} AS VARCHAR)"
    if kind == "float" and not for_parquet:  # 0.9 and not 0.8999999761581421
        return f"CAST(CAST(#{number} AS VARCHAR) AS DOUBLE)"
    if kind in ("hugeint", "uhugeint") and for_parquet:  # sums are; as decimals they would be objects in pandas
        return f"CAST(#{number} AS DOUBLE)"
    return f"#{number}"


def _unique(names: list[str]) -> list[str]:
    """Column names, made unique if a query uses one twice."""
    unique: list[str] = []
    for name in names:
        number, candidate = 0, name
        while candidate in unique:
            number += 1
            candidate = f"{name}_{number}"
        unique.append(candidate)
    return unique


def _text(value: Any) -> str | int | float:
    """A value as a cell of CSV; numbers as they are."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else _json(value)


def _defused(text: str | int | float) -> str | int | float:
    return defused(text) if isinstance(text, str) else text


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value of a type that JSON has."""
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("null", style="dim")
    if isinstance(value, datetime):
        return Text(value.isoformat(" ", "seconds").removesuffix("+00:00"))
    if isinstance(value, float):
        exact = repr(value)
        return Text(exact if len(exact) <= _LONGEST_FLOAT else f"{value:.6g}")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _shown(", ".join(value))
    return _shown(str(_text(value)))


def _shown(text: str) -> Text:
    return Text(visible(text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}\u2026"))


def _is_uri(value: Any) -> bool:
    """Whether a cell is useless when wrapped."""
    return isinstance(value, str) and "://" in value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _least_width(names: list[Text], cells: list[list[Text]]) -> int:
    """The narrowest terminal in which the table is readable: long cells wrap, names do not."""
    columns = zip(*cells, strict=True) if cells else [()] * len(names)
    widths: list[int] = [
        max([name.cell_len, *(cell.cell_len if _is_uri(cell.plain) else min(cell.cell_len, _NARROWEST) for cell in column)])
        for name, column in zip(names, columns, strict=True)
    ]
    return sum(width + 3 for width in widths) + 1

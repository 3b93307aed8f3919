"""Statements as CSV or JSON lines, one at a time: no file is too long."""

import csv
import json
from collections.abc import Iterable
from typing import Literal, TextIO

from moderation.dsa.statements import FIELDS, Statement

Format = Literal["csv", "jsonl"]


def write(statements: Iterable[Statement], out: TextIO, form: Format) -> int:
    """Write them and return their number. In CSV, a list is a JSON array, as in the database's own files."""
    count = 0
    if form == "csv":
        table = csv.writer(out, lineterminator="\n")
        table.writerow(FIELDS)
        for one in statements:
            table.writerow([_cell(one.get(name)) for name in FIELDS])
            count += 1
        return count
    for one in statements:
        out.write(json.dumps(one, ensure_ascii=False) + "\n")
        count += 1
    return count


def _cell(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, list) else str(value)

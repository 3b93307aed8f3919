"""Appeals in files: a CSV table, or what a webhook received as JSON. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moderation.common.safe_text import visible
from moderation.common.spreadsheets import restored
from moderation.errors import SettingsError
from moderation.exchange.said import Troubles, hash_of, moment_of
from moderation.labels.label_file import Remark
from moderation.labels.labels_table import Columns, Table

COLUMNS = ("uri", "text", "appellant", "reference", "filed_at", "sha256")
_READ = Columns(COLUMNS, ("uri", "text"))
_LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class Filed:
    """One appeal in a file."""

    line: int
    uri: str
    text: str
    appellant: str | None
    reference: str | None
    filed_at: datetime | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class AppealFile:
    """What a file says, and what in it cannot be used."""

    name: str
    source: str
    """csv | webhook"""
    unit: str
    """what `line` counts: line or item"""
    rows: int
    filed: tuple[Filed, ...]
    remarks: tuple[Remark, ...]


def read_appeals(data: bytes, name: str) -> AppealFile:
    """Appeals, each with the keys or columns `COLUMNS`: a CSV file, a JSON object, an array of objects, or an object per line.

    Raises:
        SettingsError: it is none of these.
    """
    is_json = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    rows = _json_rows(data, name) if is_json else iter(Table(data, name, _READ))
    troubles, filed, count = Troubles(), list[Filed](), 0
    for line, cells in rows:
        count += 1
        if isinstance(cells, str):
            troubles.add(cells, line)
            continue
        try:
            filed.append(_filed(line, {key: restored(value) for key, value in cells.items()}))
        except ValueError as error:
            troubles.add(str(error), line)
    source, unit = ("webhook", "item") if is_json else ("csv", "line")
    return AppealFile(name, source, unit, count, tuple(filed), troubles.remarks)


def _filed(line: int, cells: Mapping[str, str]) -> Filed:
    uri, text = cells.get("uri", ""), cells.get("text", "").strip()
    if not uri.strip():
        raise ValueError("`uri` is empty")
    if not text:
        raise ValueError("`text` is empty: write what the person who appeals says")
    if len(text) > _LONGEST:
        raise ValueError(f"`text` is longer than {_LONGEST:,} characters")
    return Filed(
        line=line,
        uri=uri,
        text=text,
        appellant=cells.get("appellant", "").strip() or None,
        reference=cells.get("reference", "").strip() or None,
        filed_at=moment_of(cells.get("filed_at", ""), "filed_at"),
        sha256=hash_of(cells.get("sha256", "")),
    )


def _json_rows(data: bytes, name: str) -> Iterator[tuple[int, dict[str, str] | str]]:
    for number, item in enumerate(_items(data, name), 1):
        if not isinstance(item, dict):
            yield number, "this is no JSON object"
            continue
        strange = next((key for key in COLUMNS if not isinstance(item.get(key, ""), str | int | None)), None)
        if strange is not None:
            yield number, f"`{strange}` is no text"
            continue
        yield number, {key: str(item[key]) for key in COLUMNS if item.get(key) is not None}


def _items(data: bytes, name: str) -> list[Any]:
    try:
        text = data.decode("utf-8-sig")
        try:
            found = json.loads(text)
        except json.JSONDecodeError:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            f"{visible(name)} is not JSON: {error}; give an object, an array of objects, or an object per line"
        ) from None
    return found if isinstance(found, list) else [found]

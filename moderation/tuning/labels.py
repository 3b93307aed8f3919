"""Labels: what people said about images, from a CSV file. Whatever cannot be used is told, with its lines."""

import codecs
import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, Literal

from moderation.errors import SettingsError
from moderation.visible import visible

ANY = "any"
"""In the place of a rule: whether any live rule applies."""
COLUMNS = ("uri", "rule", "label", "weight", "stratum")
_REQUIRED = ("uri", "rule", "label")
_BESIDE = ("score",)
"""Columns that sampling writes for people to look at."""
_SPELLINGS = {
    **dict.fromkeys(("true", "yes", "y", "t", "1"), True),
    **dict.fromkeys(("false", "no", "n", "f", "0"), False),
}
_LINE_LIMIT = 1 << 20  # bytes
_HEAVIEST = 1e15
_SHOWN = 5

Outcome = Literal["left out", "counted"]


@dataclass(frozen=True, slots=True)
class Label:
    """What one row says."""

    uri: str
    rule: str
    """a rule's id, or `ANY`"""
    truth: bool | None
    """None: not labelled yet"""
    weight: float | None
    """1 / the probability that the image was drawn; None where the file does not say"""
    stratum: str
    line: int


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about labels that the person who made them should know."""

    message: str
    lines: tuple[int, ...]
    """of the file, from 1"""
    outcome: Outcome
    """what became of the rows"""

    def __str__(self) -> str:
        return f"{self.message} ({self.outcome})"


@dataclass(frozen=True, slots=True)
class LabelFile:
    """The labels of a file, each image and rule once."""

    name: str
    labels: tuple[Label, ...]
    """with those that are open: they tell how many images a stratum stands for"""
    rows: int
    """rows of the file, whatever became of them"""
    remarks: tuple[Remark, ...]

    @property
    def open(self) -> int:
        """Rows without a label yet."""
        return sum(label.truth is None for label in self.labels)

    def place(self, lines: Sequence[int]) -> str:
        """labels.csv:3, 17, 20 and 12 more."""
        more = f" and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
        return f"{visible(self.name)}:{', '.join(map(str, lines[:_SHOWN]))}{more}"


def read_labels(path: Path) -> LabelFile:
    """Read labels: a CSV file with the columns `uri`, `rule` and `label`, and perhaps `weight` and `stratum`.

    A label is true, yes, y, t, 1 or false, no, n, f, 0, in small or capital letters. One that is empty is not there yet.
    An image that is labelled both ways for a rule counts for neither; one labelled twice the same way counts once.

    Raises:
        SettingsError: the file cannot be read, or is not such a table.
    """
    name = str(path)
    kept: list[Label] = []
    troubles: dict[str, list[int]] = {}
    rows = 0
    try:
        with path.open("rb") as file:
            table = _Table(file, name)
            for line, cells in table:
                rows += 1
                found = _label(line, cells) if isinstance(cells, dict) else cells
                if isinstance(found, str):
                    troubles.setdefault(found, []).append(line)
                else:
                    kept.append(found)
    except OSError as error:
        raise SettingsError(f"cannot read the labels in {visible(name)!r}: {(error.strerror or str(error)).lower()}") from None
    remarks = [Remark(text, tuple(lines), "left out") for text, lines in troubles.items()]
    if table.ignored:
        names = ", ".join(f"`{visible(column)[:60]}`" for column in table.ignored[:10])
        remarks.append(Remark(f"not read: the column{'s' * (len(table.ignored) > 1)} {names}{_meant(table)}", (1,), "counted"))
    labels, conflicts = _settled(kept)
    return LabelFile(name, labels, rows, (*remarks, *conflicts))


class _Table:
    """The rows of a CSV file as lines and cells by column; where a row does not fit, what is wrong with it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._name = name
        self._reader = csv.reader(_lines(file, name), strict=True)
        self._header: list[str] = []
        for _, cells in self._rows():
            self._header = [cell.strip().lower() for cell in cells]
            break
        _check_header(self._header, name)
        self.ignored = [column for column in self._header if column not in (*COLUMNS, *_BESIDE)]
        self.missing = [column for column in COLUMNS if column not in self._header]

    def __iter__(self) -> Iterator[tuple[int, dict[str, str] | str]]:
        width = len(self._header)
        for line, cells in self._rows():
            if len(cells) == width:
                yield line, dict(zip(self._header, cells, strict=True))
            else:
                fewer = "a comma is missing" if len(cells) < width else "put quotes around values that hold commas"
                yield line, f"{len(cells)} values where {width} belong: {fewer}"

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Rows with the number of the line where each begins; blank lines are none."""
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                raise SettingsError(
                    f"{visible(self._name)}:{line}: not good CSV, {error}: is a quote missing, or one too many?"
                ) from None
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield line, cells


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    number = 0
    while line := file.readline(_LINE_LIMIT):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) >= _LINE_LIMIT:
            raise SettingsError(f"{visible(name)}:{number}: longer than {_LINE_LIMIT >> 20} MiB: is this a CSV file?")
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise SettingsError(f"{visible(name)}:{number}: not UTF-8: save the file as CSV in UTF-8") from None


def _check_header(header: Sequence[str], name: str) -> None:
    place = f"{visible(name)}:1"
    if not header:
        raise SettingsError(f"{visible(name)} is empty: its first line must be {','.join(_REQUIRED)}")
    for column in COLUMNS:
        if header.count(column) > 1:
            raise SettingsError(f"{place}: there are two columns {column!r}: take one out")
    missing = [column for column in _REQUIRED if column not in header]
    if missing:
        one_cell = len(header) == 1 and any(mark in header[0] for mark in ";\t|")
        advice = "commas must separate the columns" if one_cell else f"the first line names them: {','.join(_REQUIRED)}"
        close = get_close_matches(missing[0], header, n=1)
        if close and not one_cell:
            advice = f"rename {visible(close[0])!r}"
        found = ", ".join(repr(visible(cell)[:40]) for cell in header[:10])
        raise SettingsError(f"{place}: there is no column {missing[0]!r}, only {found}: {advice}")


def _meant(table: _Table) -> str:
    for column in table.ignored:
        close = get_close_matches(column, table.missing, n=1)
        if close:
            return f"; is {visible(column)[:60]!r} meant to be `{close[0]}`?"
    return ""


def _label(line: int, cells: dict[str, str]) -> Label | str:
    """One row's label, or what is wrong with the row."""
    said = cells["label"].strip().lower()
    if said and said not in _SPELLINGS:
        return f"the label {_short(cells['label'])} is neither true nor false: write true or false"
    uri, rule = cells["uri"], cells["rule"].strip()
    if not uri.strip():
        return "`uri` is empty"
    if not rule:
        return f"`rule` is empty: write the id of a rule, or {ANY}"
    rule = ANY if rule.lower() == ANY else rule
    weight = None
    told = cells.get("weight", "").strip()
    if told:
        try:
            weight = float(told)
        except ValueError:
            weight = math.nan
        if not 0 < weight <= _HEAVIEST:
            return f"the weight {_short(told)} is not a positive number"
    return Label(uri, rule, _SPELLINGS.get(said), weight, cells.get("stratum", "").strip(), line)


def _short(text: str) -> str:
    shown = visible(text)
    return repr(shown if len(shown) <= 40 else f"{shown[:39]}…")


def _settled(labels: Sequence[Label]) -> tuple[tuple[Label, ...], list[Remark]]:
    """Each image and rule once, and what was found on the way."""
    by_key: dict[tuple[str, str], list[Label]] = {}
    for label in labels:
        by_key.setdefault((label.uri, label.rule), []).append(label)
    kept: list[Label] = []
    contradictions: list[int] = []
    repeats: list[int] = []
    pairs = 0
    for together in by_key.values():
        same = [label for label in together if label.truth is not None] or together
        repeats += [label.line for label in together if label.truth is None and same is not together]
        if len({label.truth for label in same}) > 1:
            pairs += 1
            contradictions += [label.line for label in same]
            continue
        kept.append(same[0])
        repeats += [label.line for label in same[1:]]
    remarks = []
    if contradictions:
        what = "1 image is" if pairs == 1 else f"{pairs:,} times an image is"
        told = f"{what} labelled both true and false for one rule"
        remarks.append(Remark(told, tuple(sorted(contradictions)), "left out"))
    if repeats:
        count = "1 row repeats" if len(repeats) == 1 else f"{len(repeats):,} rows repeat"
        remarks.append(Remark(f"{count} an earlier one", tuple(sorted(repeats)), "left out"))
    return tuple(sorted(kept, key=lambda label: label.line)), remarks

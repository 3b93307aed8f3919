"""The rows of a CSV file, as programs and spreadsheets of different countries write it. Pure."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from moderation.common.safe_text import visible
from moderation.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a kind of table."""

    known: tuple[str, ...]
    """what is read"""
    required: tuple[str, ...]
    """of these, what must be there"""
    beside: tuple[str, ...] = ()
    """what this program writes for people to look at, and does not read"""


LABELS = Columns(("uri", "rule", "label", "weight", "stratum"), ("uri", "rule", "label"), ("score",))
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_LINE_LIMIT = 1 << 20  # characters


class Table:
    """The rows of a CSV file as lines and cells by column; where a row does not fit, what is wrong with it.

    Args:
        raw: the file.
        name: what messages call it.
        columns: those that are known.
        required: those that it must have.

    Raises:
        SettingsError: it is no such table.
    """

    def __init__(self, raw: bytes, name: str, columns: Columns = LABELS) -> None:
        self._name = name
        text, self.encoding = _decoded(raw, name)
        self.strange = next((line.strip() for line in text.splitlines() if not line.isascii()), "")
        """a line that shows whether the encoding is right"""
        first, _, rest = text.partition("\n")
        self._skipped = first.strip().lower().startswith("sep=")  # Excel's own way to name the delimiter
        text = rest if self._skipped else text
        self.delimiter = _delimiter(text, columns)
        self._reader = csv.reader(_lines(text, name), delimiter=self.delimiter, strict=True)
        self._header: list[str] = []
        for _, cells in self._rows():
            self._header = [cell.strip().lower() for cell in cells]
            break
        _check_header(self._header, name, columns)
        self.ignored = [column for column in self._header if column not in (*columns.known, *columns.beside)]
        self.missing = [column for column in columns.known if column not in self._header]

    def __iter__(self) -> Iterator[tuple[int, dict[str, str] | str]]:
        width, mark = len(self._header), _DELIMITERS[self.delimiter]
        for line, cells in self._rows():
            if len(cells) == width:
                yield line, dict(zip(self._header, cells, strict=True))
            else:
                fewer = f"a {mark} is missing" if len(cells) < width else f"put quotes around values that hold {mark}s"
                yield line, f"{len(cells)} values where {width} belong: {fewer}"

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Rows with the number of the line where each begins; blank lines are none."""
        while True:
            line = self._reader.line_num + 1 + self._skipped
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                raise SettingsError(
                    f"{visible(self._name)}:{line}: not valid CSV, {error}: is there a missing or an extra quote?"
                ) from None
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield line, cells


def _decoded(raw: bytes, name: str) -> tuple[str, str]:
    """The text, and its encoding where it is not UTF-8."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return raw.decode("utf-16"), "UTF-16"
        except UnicodeDecodeError:
            raise SettingsError(f"{visible(name)}:1: not UTF-8: save the file as CSV in UTF-8") from None
    if raw.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise SettingsError(f"{visible(name)} is a workbook: save it as CSV in UTF-8")
    try:
        return raw.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SettingsError(f"{visible(name)}:{line}: not UTF-8: save the file as CSV in UTF-8")
    return text, "Windows-1252"


def _delimiter(text: str, columns: Columns) -> str:
    """What parts the columns of the first line that is not blank."""
    header = next((line for line in text.splitlines() if line.strip()), "")

    def fits(mark: str) -> int:
        return len({cell.strip().strip('"').lower() for cell in header.split(mark)} & set(columns.known))

    best = max(_DELIMITERS, key=fits)
    return best if fits(best) > 1 else ","


def _lines(text: str, name: str) -> Iterator[str]:
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if len(line) >= _LINE_LIMIT:
            raise SettingsError(f"{visible(name)}:{number}: longer than {_LINE_LIMIT >> 20} MiB: is this a CSV file?")
        yield line


def _check_header(header: Sequence[str], name: str, columns: Columns) -> None:
    place = f"{visible(name)}:1"
    if not header:
        raise SettingsError(f"{visible(name)} is empty: its first line must be {','.join(columns.required)}")
    for column in columns.known:
        if header.count(column) > 1:
            raise SettingsError(f"{place}: there are two columns {column!r}: remove one")
    missing = [column for column in columns.required if column not in header]
    if missing:
        advice = f"the first line names them: {','.join(columns.required)}"
        close = get_close_matches(missing[0], header, n=1)
        if len(header) == 1 and any(mark in header[0] for mark in ";\t|:"):
            advice = "commas must separate the columns"
        elif close:
            advice = f"rename {visible(close[0])!r}"
        found = ", ".join(repr(visible(cell)[:40]) for cell in header[:10])
        raise SettingsError(f"{place}: there is no column {missing[0]!r}, only {found}: {advice}")

"""Labels: people's answers about images, from a CSV file. Unusable rows are reported with their lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from moderation.common.safe_text import visible
from moderation.demo import SCHEME, picture
from moderation.errors import SettingsError
from moderation.labels.labels_table import Table
from moderation.storage import file_uri

ANY = "any"
"""In the place of a rule: whether any live rule applies."""
SPELLINGS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "yes", "y", "t", "1", "1.0", "1,0", "x", "✓", "✔"), True),
    **dict.fromkeys(("false", "no", "n", "f", "0", "0.0", "0,0"), False),
    # What spreadsheets write in other languages.
    **dict.fromkeys(
        ("wahr", "ja", "vrai", "oui", "verdadero", "sí", "vero", "sì", "verdadeiro", "sim", "waar", "prawda"), True
    ),
    **dict.fromkeys(("falsch", "nein", "faux", "non", "falso", "não", "onwaar", "nee", "fałsz"), False),
    "unsure": None,
}
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
        """labels.csv:3, 17, 20 and 12 more; without lines, the name alone."""
        more = f" and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
        return f"{visible(self.name)}:{', '.join(map(str, lines[:_SHOWN]))}{more}" if lines else visible(self.name)


def read_labels(path: Path) -> LabelFile:
    """Read labels: a CSV file with the columns `uri`, `rule` and `label`, and perhaps `weight` and `stratum`.

    A label is true, yes, y, t, 1 or false, no, n, f, 0, in small or capital letters, or the same in another language. One that
    is empty or `unsure` is not there yet. Commas, semicolons or tabs part the columns, in UTF-8, UTF-16 or Windows-1252.
    An image that is labelled both ways for a rule counts for neither; one labelled twice the same way counts once.

    Raises:
        SettingsError: the file cannot be read, or is not such a table.
    """
    try:
        return parse_labels(path.read_bytes(), str(path))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingsError(f"cannot read the labels in {visible(str(path))!r}: {reason}") from None


def parse_labels(raw: bytes, name: str) -> LabelFile:
    """The labels in the bytes of a file, as `read_labels`; `name` is what messages call it. Raises `SettingsError`."""
    kept: list[Label] = []
    troubles: dict[str, list[int]] = {}
    rows = 0
    table = Table(raw, name)
    for line, cells in table:
        rows += 1
        found = _label(line, cells, table.delimiter) if isinstance(cells, dict) else cells
        if isinstance(found, str):
            troubles.setdefault(found, []).append(line)
        else:
            kept.append(found)
    remarks = [Remark(text, tuple(lines), "left out") for text, lines in troubles.items()]
    if table.ignored:
        names = ", ".join(f"`{visible(column)[:60]}`" for column in table.ignored[:10])
        remarks.append(Remark(f"not read: the column{'s' * (len(table.ignored) > 1)} {names}{_meant(table)}", (1,), "counted"))
    if table.encoding:
        remarks.append(
            Remark(f"not UTF-8: read as {table.encoding}, as {visible(table.strange)[:60]!r} shows", (1,), "counted")
        )
    labels, conflicts = _settled(kept)
    return LabelFile(name, labels, rows, (*remarks, *conflicts))


def _meant(table: Table) -> str:
    for column in table.ignored:
        close = get_close_matches(column, table.missing, n=1)
        if close:
            return f"; is {visible(column)[:60]!r} meant to be `{close[0]}`?"
    return ""


def _label(line: int, cells: dict[str, str], delimiter: str) -> Label | str:
    """One row's label, or what is wrong with the row."""
    said = cells["label"].strip().lower()
    if said and said not in SPELLINGS:
        return f"the label {_short(cells['label'])} is neither true nor false: write true or false"
    uri, rule = cells["uri"], cells["rule"].strip()
    if uri.startswith(SCHEME):
        uri = file_uri(str(picture(uri)))
    if not uri.strip():
        return "`uri` is empty"
    if not rule:
        return f"`rule` is empty: write the id of a rule, or {ANY}"
    rule = ANY if rule.lower() == ANY else rule
    weight = None
    wording = cells.get("weight", "").strip()
    if wording:
        try:
            weight = float(wording if delimiter == "," else wording.replace(",", "."))
        except ValueError:
            weight = math.nan
        if not 0 < weight <= _HEAVIEST:
            return f"the weight {_short(wording)} is not a positive number"
    return Label(uri, rule, SPELLINGS.get(said), weight, cells.get("stratum", "").strip(), line)


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
        what = "1 image is" if pairs == 1 else f"{pairs:,} images are"
        wording = f"{what} labelled both true and false for one rule"
        remarks.append(Remark(wording, tuple(sorted(contradictions)), "left out"))
    if repeats:
        count = "1 row repeats" if len(repeats) == 1 else f"{len(repeats):,} rows repeat"
        remarks.append(Remark(f"{count} an earlier one", tuple(sorted(repeats)), "left out"))
    return tuple(sorted(kept, key=lambda label: label.line)), remarks

"""Entries of text files: a hash a line, `type hash`, `hash  name` as sha256sum writes it, and CSV."""

import csv
import string
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from moderation.lists.hash_list import TYPE_NAMES
from moderation.lists.problems import Problems


class Row(NamedTuple):
    """An entry as the file has it, nothing checked yet."""

    line: int
    kind: str
    """what the file calls the kind; empty where it does not say"""
    hash: str
    quality: str
    label: str
    source: str
    """the line, to show it"""

    def column(self, text: str) -> int:
        """Where a text stands in the line, from 1."""
        return max(0, self.source.find(text)) + 1


class Layout(NamedTuple):
    """Which column of a text file is what."""

    delimiter: str
    """empty: no columns, but a hash, `type hash` or `hash  name`"""
    columns: int = 1
    hash: int = 0
    kind: int | None = None
    quality: int | None = None
    labels: tuple[int, ...] = ()
    titled: bool = False
    """whether the first line names the columns"""


_HASH = ("hash", "pdq", "sha256", "md5", "indicator", "raw_indicator", "signal", "signal_value", "hash_value", "value")
_KIND = ("type", "hash_type", "signal_type", "indicator_type", "algorithm", "kind")
_LABEL = ("label", "labels", "tag", "tags", "name", "description", "category", "reason", "comment", "filename", "file")
_HEX = frozenset(string.hexdigits)


def text_rows(lines: Iterable[tuple[int, str]], problems: Problems) -> Iterator[Row]:
    """Rows of the lines of a file; empty lines and lines that begin with `#` say nothing."""
    content = ((number, line) for number, line in lines if line.strip() and not line.lstrip().startswith("#"))
    first = next(content, None)
    if first is None:
        return
    layout = layout_of(*first, problems)
    if layout is None:
        return
    rows = content if layout.titled else chain([first], content)
    if not layout.delimiter:
        yield from (_spaced(number, line) for number, line in rows)
    else:
        yield from _table(rows, layout, problems)


def layout_of(number: int, line: str, problems: Problems) -> Layout | None:
    """The layout of a file, by its first line with content; None, with a problem, where no column is known to hold hashes."""
    delimiter = next((mark for mark in (",", ";", "\t") if mark in line), None)
    if delimiter is None and line.strip().strip('"').lower() not in _HASH:
        return Layout("")
    delimiter = delimiter or ","
    head = _fields(number, line, delimiter, problems)
    if head is None:
        return None
    names = [name.strip().lower() for name in head]
    if not any(looks_like_hash(name) for name in names):
        at = next((names.index(name) for name in _HASH if name in names), None)
        if at is None:
            message = f"no column is known to hold hashes: {', '.join(head)[:200]}"
            problems.error(number, 1, message, "call the column with the hashes `hash`", source=line)
            return None
        kind = next((names.index(name) for name in _KIND if name in names), None)
        quality = names.index("quality") if "quality" in names else None
        labels = tuple(n for n, name in enumerate(names) if name in _LABEL and n != at)
        return Layout(delimiter, len(names), at, kind, quality, labels, titled=True)
    at = next(n for n, name in enumerate(names) if looks_like_hash(name))
    kind = next((n for n, name in enumerate(names) if name in TYPE_NAMES), None)
    # As pdq-photo-hasher writes it: hash, quality, file.
    after = at + 1
    quality = after if after < len(names) and names[after].isdecimal() and int(names[after][:9]) <= 100 else None
    labels = tuple(n for n in range(len(names)) if n not in (at, kind, quality))
    return Layout(delimiter, len(names), at, kind, quality, labels)


def _spaced(number: int, line: str) -> Row:
    one, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if not rest:
        return Row(number, "", one, "", "", line)
    if looks_like_hash(one):
        return Row(number, "", one, "", rest.removeprefix("*"), line)
    return Row(number, one, rest, "", "", line)


def _table(content: Iterable[tuple[int, str]], layout: Layout, problems: Problems) -> Iterator[Row]:
    needed = max(n for n in (layout.hash, layout.kind, layout.quality) if n is not None)
    for number, line in content:
        fields = _fields(number, line, layout.delimiter, problems)
        if fields is None:
            continue
        if len(fields) <= needed:
            message = f"{len(fields)} columns where {needed + 1} are needed"
            problems.error(number, len(line) + 1, message, "write all columns in every line, empty ones too", source=line)
            continue
        yield _row(number, line, fields, layout)


def _row(number: int, line: str, fields: list[str], layout: Layout) -> Row:
    label = " ".join(fields[n].strip() for n in layout.labels if n < len(fields) and fields[n].strip())
    return Row(
        number,
        fields[layout.kind].strip() if layout.kind is not None else "",
        fields[layout.hash].strip(),
        fields[layout.quality].strip() if layout.quality is not None else "",
        label,
        line,
    )


def _fields(number: int, line: str, delimiter: str, problems: Problems) -> list[str] | None:
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True))
    except (csv.Error, StopIteration) as error:
        unclosed = "end of data" in str(error)
        message = "a quote is not closed in this line" if unclosed else f"not CSV: {error}"
        hint = 'close it; write a quote inside quotes as ""'
        problems.error(number, line.rindex('"') + 1 if unclosed else 1, message, hint, source=line)
        return None


def looks_like_hash(text: str) -> bool:
    """Whether a text is the hex digits of an MD5, a SHA-256 or a PDQ."""
    return len(text) in (32, 64) and _HEX.issuperset(text)

"""Entries of text files: a hash a line, `type hash`, `hash  name` as sha256sum writes it, and CSV."""

import csv
import string
from collections.abc import Iterable, Iterator
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
    delimiter = next((mark for mark in (",", ";", "\t") if mark in first[1]), None)
    if delimiter is None and first[1].strip().strip('"').lower() not in _HASH:
        yield _spaced(*first)
        yield from (_spaced(number, line) for number, line in content)
    else:
        yield from _table(first, content, delimiter or ",", problems)


def _spaced(number: int, line: str) -> Row:
    one, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if not rest:
        return Row(number, "", one, "", "", line)
    if looks_like_hash(one):
        return Row(number, "", one, "", rest.removeprefix("*"), line)
    return Row(number, one, rest, "", "", line)


def _table(first: tuple[int, str], content: Iterator[tuple[int, str]], delimiter: str, problems: Problems) -> Iterator[Row]:
    head = _fields(*first, delimiter, problems)
    if head is None:
        return
    names = [name.strip().lower() for name in head]
    titled = not any(looks_like_hash(name) for name in names)
    if titled:
        at = next((names.index(name) for name in _HASH if name in names), None)
        if at is None:
            message = f"no column is known to hold hashes: {', '.join(head)[:200]}"
            problems.error(first[0], 1, message, "call the column with the hashes `hash`", source=first[1])
            return
        kind = next((names.index(name) for name in _KIND if name in names), None)
        quality = names.index("quality") if "quality" in names else None
        labels = [n for n, name in enumerate(names) if name in _LABEL and n != at]
    else:
        at = next(n for n, name in enumerate(names) if looks_like_hash(name))
        kind = next((n for n, name in enumerate(names) if name in TYPE_NAMES), None)
        # As pdq-photo-hasher writes it: hash, quality, file.
        after = at + 1
        quality = after if after < len(names) and names[after].isdecimal() and int(names[after][:9]) <= 100 else None
        labels = [n for n in range(len(names)) if n not in (at, kind, quality)]
    needed = max(n for n in (at, kind, quality) if n is not None)
    if not titled:
        yield _row(*first, head, at, kind, quality, labels)
    for number, line in content:
        fields = _fields(number, line, delimiter, problems)
        if fields is None:
            continue
        if len(fields) <= needed:
            message = f"{len(fields)} columns where {needed + 1} are needed"
            problems.error(number, len(line) + 1, message, "write all columns in every line, empty ones too", source=line)
            continue
        yield _row(number, line, fields, at, kind, quality, labels)


def _row(number: int, line: str, fields: list[str], at: int, kind: int | None, quality: int | None, labels: list[int]) -> Row:
    label = " ".join(fields[n].strip() for n in labels if n < len(fields) and fields[n].strip())
    return Row(
        number,
        fields[kind].strip() if kind is not None else "",
        fields[at].strip(),
        fields[quality].strip() if quality is not None else "",
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

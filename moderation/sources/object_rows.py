"""Rows of a file that lists objects, and the objects they name. Pure: values in, values out."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress
from reprlib import repr as short
from typing import TypeVar, cast

from moderation.errors import SourceError
from moderation.records import ObjectRef
from moderation.storage.entity_tags import entity_tag

EPOCH = datetime.fromtimestamp(0, UTC)
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_LARGEST = 2**63 - 1
_SIZE_WANTED = "give whole bytes, or leave it empty"
_TIME_WANTED = "give ISO 8601, such as 2026-11-21T03:00:00Z, or seconds since 1970, or leave it empty"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of a file, column by column. What the file leaves open is None or empty text."""

    file: str
    """its URI"""
    unit: str
    """what `numbers` counts: "row" (a header is none) or "line" """
    numbers: Sequence[int]
    """of these rows in the file, from 1"""
    columns: Mapping[str, Sequence[object]]

    def error(self, index: int, problem: str) -> SourceError:
        """An error that says which row it is about."""
        return SourceError(f"{self.file}, {self.unit} {self.numbers[index]}: {problem}")

    def only(self, keep: Sequence[bool]) -> "Rows":
        """The rows where `keep` is true."""
        columns = {name: list(compress(values, keep)) for name, values in self.columns.items()}
        return Rows(self.file, self.unit, list(compress(self.numbers, keep)), columns)


def names_in(rows: Rows, column: str) -> list[str]:
    """A column of text that every row fills. Raises `SourceError` where one does not."""
    names = _texts(rows, column)
    if not all(names):
        raise rows.error(names.index(""), f"{column!r} is empty: name an object, or remove the row")
    return names


def object_refs(rows: Rows, uris: Sequence[str]) -> list[ObjectRef]:
    """The objects at `uris`, with what the columns `etag`, `size` and `last_modified` say of them.

    An ETag counts only where size and time are given with it: without them the object must be looked up anyway, so the ETag
    is left empty. A size that is not given is 0, a time 1970. A time without a zone is UTC; a number is seconds since 1970.

    Raises:
        SourceError: a value is not valid in its column.
    """
    etags = list(map(entity_tag, _texts(rows, "etag")))
    sizes, times = _sizes(rows), _times(rows)
    if None in sizes or None in times:
        known = [size is not None and time is not None for size, time in zip(sizes, times, strict=True)]
        etags = [etag if whole else "" for etag, whole in zip(etags, known, strict=True)]
        sizes = [size or 0 for size in sizes]
        times = [time or EPOCH for time in times]
    return list(map(ObjectRef._make, zip(uris, etags, sizes, times, strict=True)))


def _texts(rows: Rows, column: str) -> list[str]:
    values = rows.columns[column]
    if set(map(type, values)) <= {str}:
        texts = cast("list[str]", list(values))
    else:
        texts = ["" if text is None else text for text in _each(rows, column, _text, "give text")]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        broken = next(index for index, text in enumerate(texts) if not _encodes(text))
        raise rows.error(broken, f"{column!r} is {texts[broken]!a}, which contains half a character") from None
    return texts


def _sizes(rows: Rows) -> list[int | None]:
    values = rows.columns["size"]
    kinds = set(map(type, values))
    if kinds in ({int}, {str}):
        try:
            sizes = list(map(int, cast("Sequence[int | str]", values)))
        except ValueError:
            sizes = [-1]
        if min(sizes) >= 0 and max(sizes) <= _LARGEST:
            return cast("list[int | None]", sizes)
    return _each(rows, "size", _size, _SIZE_WANTED)


def _times(rows: Rows) -> list[datetime | None]:
    values = rows.columns["last_modified"]
    kinds = set(map(type, values))
    if kinds == {str}:
        texts = cast("Sequence[str]", values)
        try:
            times = [] if any(map(str.isdecimal, texts)) else list(map(datetime.fromisoformat, texts))
        except ValueError:
            times = []
        if times and all(time.tzinfo is UTC for time in times):
            return cast("list[datetime | None]", times)
    return _each(rows, "last_modified", _time, _TIME_WANTED)


def _each(rows: Rows, column: str, convert: Callable[[object], T | None], wanted: str) -> list[T | None]:
    found: list[T | None] = []
    for index, value in enumerate(rows.columns[column]):
        try:
            found.append(None if _is_open(value) else convert(value))
        except (ValueError, TypeError, OverflowError, OSError):
            raise rows.error(index, f"{column!r} is {short(value)}: {wanted}") from None
    return found


def _is_open(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    try:
        size = int(value) if not isinstance(value, float) else float(value)
    except ValueError:
        size = float(value)  # pandas writes a column of integers with gaps as 123.0
    if size != int(size) or not 0 <= size <= _LARGEST:
        raise ValueError
    return int(size)


def _time(value: object) -> datetime:
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value) else datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return datetime.fromtimestamp(value, UTC)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

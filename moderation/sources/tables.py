"""Files of rows in storage, CSV, JSON lines or Parquet, read page by page: memory stays flat for files of any size."""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from itertools import islice
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from moderation.errors import ErrorCode, SourceError, StorageError
from moderation.sources.object_rows import EPOCH, Rows
from moderation.storage import Census, Store

PAGE = 1000
"""rows"""
PART = 50_000
"""rows at least of what is worth reading apart"""
_UNPACKED = 1 << 20  # bytes
_LINE_LIMIT = 1 << 20  # bytes
_PARQUET_BUFFER = 8 << 20  # bytes for each column: as much as a store fetches at once


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of rows at one version."""

    uri: str
    etag: str
    format: str
    """csv, jsonl or parquet"""
    gzipped: bool = False
    header: tuple[str, ...] | None = None
    """the names of the columns, where a CSV file does not begin with them"""
    groups: tuple[int, int] | None = None
    """the row groups of a Parquet file from the first to before the second; None: all"""


def rows_of(file: TableFile, columns: Sequence[str], required: Sequence[str], census: Census | None = None) -> Iterator[Rows]:
    """Pages of some columns; one that the file lacks is all None, unless it is required.

    How many rows there are is added to `census`: what the footer of a Parquet file says, or as many as are read.

    CSV is read strictly, by the standard library: pyarrow takes all that follows a quote that nobody closed for one value.

    Raises:
        SourceError: the file cannot be read, has changed, or is not what it should be.
    """
    with _errors_in_one_line(file), ExitStack() as stack:
        store, key = Store.locate(file.uri)
        stream = stack.enter_context(store.open(key, file.etag))
        if file.gzipped:
            if not stream.read(1):
                raise EOFError
            stream.seek(0)
            packed = stack.enter_context(gzip.GzipFile(fileobj=stream))
            stream = cast("BinaryIO", stack.enter_context(io.BufferedReader(packed, _UNPACKED)))
        read = {"csv": _csv_rows, "jsonl": _json_rows, "parquet": _parquet_rows}[file.format]
        census = Census() if census is None else census
        if file.format == "parquet":
            metadata = pq.read_metadata(stream)
            census.objects += sum(metadata.row_group(number).num_rows for number in _groups(file, metadata))
            stream.seek(0)
        for rows in read(stream, file, columns, required):
            if file.format != "parquet":
                census.objects += len(rows.numbers)
            yield rows


def parts_of(file: TableFile) -> list[TableFile]:
    """Parts of a file that can be read at the same time: some row groups of a Parquet file each. Raises `SourceError`."""
    if file.format != "parquet":
        return [file]
    with _errors_in_one_line(file):
        store, key = Store.locate(file.uri)
        with store.open(key, file.etag) as stream:
            metadata = pq.read_metadata(stream)
    parts, first, rows = list[TableFile](), 0, 0
    for number in range(metadata.num_row_groups):
        rows += metadata.row_group(number).num_rows
        if rows >= PART or number + 1 == metadata.num_row_groups:
            parts.append(replace(file, groups=(first, number + 1)))
            first, rows = number + 1, 0
    return parts


def check_columns(file: str, found: Sequence[str], columns: Sequence[str], required: Sequence[str]) -> None:
    """Raises `SourceError` if a column is missing that is required, or one is there twice."""
    for column in columns:
        if list(found).count(column) > 1:
            raise SourceError(f"{file} has two columns {column!r}: remove one")
    for column in required:
        if column not in found:
            plain = {name.strip().lower(): name for name in found}
            close = get_close_matches(column.lower(), plain, n=1)
            if len(found) == 1 and any(mark in found[0] for mark in ";\t|"):
                advice = "commas must separate the columns"
            elif close:
                advice = f"rename {plain[close[0]]!r}"
            else:
                advice = f"one column must have exactly the name {column!r}"
            others = f"only {', '.join(map(repr, found[:20]))}{', …' * (len(found) > 20)}" if found else "nor any other"
            raise SourceError(f"{file} has no column {column!r}, {others}: {advice}")


@contextmanager
def _errors_in_one_line(file: TableFile) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        if error.code is ErrorCode.CHANGED:
            raise SourceError(
                f"{file.uri} changed while it was being read: start a new run, and do not change the file meanwhile"
            ) from None
        raise SourceError(f"cannot read {file.uri}: {error.detail}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        found = "is cut short" if isinstance(error, EOFError) else "is not valid gzip"
        raise SourceError(f"{file.uri} {found}: copy it again, or write it again") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())[:300]
        raise SourceError(f"{file.uri} is not a valid {file.format} file: {text}") from None


def _csv_rows(stream: BinaryIO, file: TableFile, columns: Sequence[str], required: Sequence[str]) -> Iterator[Rows]:
    reader = csv.reader((line for _, line in _lines(stream, file)), strict=True)
    try:
        header = file.header or next(filter(None, reader), [])
        check_columns(file.uri, header, columns, required)
        first = 1
        while page := list(islice(reader, PAGE)):
            page = _whole_rows(file, first, page, len(header))
            if not page:
                continue
            cells = dict(zip(header, zip(*page, strict=True), strict=False))
            numbers = range(first, first + len(page))
            nothing = (None,) * len(page)
            yield Rows(file.uri, "row", numbers, {column: cells.get(column, nothing) for column in columns})
            first += len(page)
    except csv.Error as error:
        raise SourceError(f"{file.uri}, line {reader.line_num}: not valid CSV, {error}: is a quote missing?") from None


def _whole_rows(file: TableFile, first: int, page: list[list[str]], width: int) -> list[list[str]]:
    """Without blank lines, which are no rows."""
    if set(map(len, page)) != {width}:
        page = [row for row in page if row]
        for number, row in enumerate(page, first):
            if len(row) != width:
                problem = f"{len(row)} values where {width} belong: put quotes around values that contain commas"
                raise SourceError(f"{file.uri}, row {number}: {problem}")
    return page


def _json_rows(stream: BinaryIO, file: TableFile, columns: Sequence[str], required: Sequence[str]) -> Iterator[Rows]:
    lines = ((number, line) for number, line in _lines(stream, file) if not line.isspace())
    while page := list(islice(lines, PAGE)):
        numbers = [number for number, _ in page]
        objects = _json_objects(file, page)
        for number, found in zip(numbers, objects, strict=True):
            if not found.keys() >= set(required):
                check_columns(f"{file.uri}, line {number},", list(found), columns, required)
        yield Rows(file.uri, "line", numbers, {column: [found.get(column) for found in objects] for column in columns})


def _json_objects(file: TableFile, page: Sequence[tuple[int, str]]) -> Sequence[dict[str, Any]]:
    try:
        # All at once: several times as fast as line by line.
        objects = json.loads("[" + ",".join(line for _, line in page) + "]")
        if len(objects) == len(page) and set(map(type, objects)) == {dict}:
            return cast("list[dict[str, Any]]", objects)
    except (ValueError, RecursionError):
        pass
    return [_json_object(file, number, line) for number, line in page]


def _json_object(file: TableFile, number: int, line: str) -> dict[str, Any]:
    problem = "write one JSON object on each line"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file.uri}, line {number}: not JSON, {getattr(error, 'msg', error)}: {problem}") from None
    if not isinstance(found, dict):
        raise SourceError(f"{file.uri}, line {number}: a JSON {type(found).__name__}: {problem}")
    return found


def _lines(stream: BinaryIO, file: TableFile) -> Iterator[tuple[int, str]]:
    number = 0
    while line := stream.readline(_LINE_LIMIT):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) >= _LINE_LIMIT:
            raise SourceError(f"{file.uri}, line {number}: longer than {_LINE_LIMIT >> 20} MiB: is this a {file.format} file?")
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise SourceError(f"{file.uri}, line {number}: not UTF-8 ({error.reason}): save the file as UTF-8") from None


def _parquet_rows(stream: BinaryIO, file: TableFile, columns: Sequence[str], required: Sequence[str]) -> Iterator[Rows]:
    table = pq.ParquetFile(stream, buffer_size=_PARQUET_BUFFER, pre_buffer=False)
    schema = table.schema_arrow
    check_columns(file.uri, schema.names, columns, required)
    present = [column for column in columns if column in schema.names]
    for column in present:
        if pa.types.is_nested(schema.field(column).type):
            raise SourceError(f"{file.uri}: the column {column!r} is {schema.field(column).type}: give single values")
    groups = _groups(file, table.metadata)
    first = begin = 1 + sum(table.metadata.row_group(number).num_rows for number in range(groups.start))
    for batch in table.iter_batches(PAGE, row_groups=groups, columns=present, use_threads=False):
        numbers = range(first, first + batch.num_rows)
        first += batch.num_rows
        nothing = (None,) * batch.num_rows
        try:
            found = {column: _values(batch.column(column)) for column in present}
        except (UnicodeDecodeError, OverflowError) as error:
            raise SourceError(f"{file.uri}, rows {numbers[0]} to {numbers[-1]}: {error}") from None
        yield Rows(file.uri, "row", numbers, {column: found.get(column, nothing) for column in columns})
    said = sum(table.metadata.row_group(number).num_rows for number in groups)
    if first - begin != said:
        raise SourceError(f"{file.uri} holds {first - begin:,} rows, but its footer says {said:,}: write it again")


def _groups(file: TableFile, metadata: pq.FileMetaData) -> range:
    return range(*file.groups) if file.groups else range(metadata.num_row_groups)


def _values(column: Any) -> Sequence[object]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type):
        return _times(column)
    values: list[object] = column.to_pylist()
    return values


def _times(column: Any) -> Sequence[datetime | None]:
    # As integers: pyarrow's own conversion looks up the zone for every value, and a time without one is UTC here.
    kind = pa.timestamp("us", column.type.tz)
    instants = column.cast(kind, safe=column.type.unit != "ns").cast(pa.int64()).to_pylist()
    return [None if instant is None else EPOCH + timedelta(microseconds=instant) for instant in instants]

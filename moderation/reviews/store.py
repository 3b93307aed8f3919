"""Reviews in storage: appended in files that are created once and never changed, and read as one table.

    <output>/reviews/date=<day of writing, UTC>/<id>.parquet

Any number of writers append at once. A row may be in two files, while `moderation.reviews.compaction` runs or after it crashed:
readers keep one of each `review_id`.
"""

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from moderation.errors import ErrorCode, OutputError, StorageError
from moderation.records import ObjectRef
from moderation.reviews.identity import new_id
from moderation.reviews.review import Review
from moderation.reviews.schema import REVIEWS, as_table
from moderation.storage import Store

FOLDER = "reviews/"
_ATTEMPTS = 5


def append(output: Store, reviews: Iterable[Review]) -> str | None:
    """Add reviews, all or none of them. Returns the key of their file; None if there are none.

    Raises:
        OutputError: the output cannot be written.
    """
    return append_rows(output, FOLDER, as_table(reviews), "review_id")


def read(output: Store, columns: Sequence[str] | None = None) -> pa.Table:
    """All reviews, each once, by `review_id`; or some of their columns, `review_id` always among them.

    Raises:
        OutputError: the output or a file cannot be read.
    """
    return read_rows(output, FOLDER, REVIEWS, "review_id", columns)


def append_rows(output: Store, folder: str, rows: pa.Table, key: str) -> str | None:
    """Add rows to the table in a folder such as `reviews/`, sorted by the column `key`. Raises `OutputError`."""
    if not rows.num_rows:
        return None
    path = f"{folder}date={datetime.now(UTC):%Y-%m-%d}/{new_id()}.parquet"
    try:
        output.put(path, parquet_of(rows.sort_by(key)), create_only=True)
    except StorageError as error:
        raise OutputError(f"cannot write {output.uri_of(path)}: {error.detail}; nothing was saved") from None
    return path


def read_rows(output: Store, folder: str, schema: pa.Schema, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of the table in a folder, each `key` once, by `key`. Raises `OutputError`."""
    wanted = schema.names if columns is None else list(dict.fromkeys([key, *columns]))
    for _ in range(_ATTEMPTS):
        try:
            parts = [read_file(output, item, schema, wanted) for item in files(output, folder)]
            break
        except StorageError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise OutputError(f"cannot read {output.uri_of(folder)}: {error.detail}") from None
            # A compaction removed a file after it was listed; its rows are in a newer one.
    else:
        raise OutputError(f"cannot read {output.uri_of(folder)}: its files keep disappearing: try again later")
    kinds = pa.schema([schema.field(name) for name in wanted], schema.metadata)
    rows = pa.concat_tables([kinds.empty_table(), *parts]).combine_chunks()
    return each_once(rows, key)


def files(output: Store, folder: str = FOLDER) -> list[ObjectRef]:
    """The Parquet files of a table, by key. Raises `StorageError`."""
    found = [item for page in output.list(folder) for item in page if item.uri.endswith(".parquet")]
    return sorted(found, key=lambda item: item.uri)


def read_file(output: Store, item: ObjectRef, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Some columns of one file; those that it lacks are null.

    Raises:
        StorageError: it cannot be fetched.
        OutputError: it is no such file.
    """
    data = output.read(item)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found = file.read(columns=[name for name in columns if name in file.schema_arrow.names])
        for name in columns:
            if name not in found.column_names and schema.field(name).nullable:
                found = found.append_column(schema.field(name), pa.nulls(found.num_rows, schema.field(name).type))
        return found.select(list(columns)).cast(pa.schema([schema.field(name) for name in columns], schema.metadata))
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        wording = " ".join(str(error).split())[:200]
        raise OutputError(f"{item.uri} is not a file of {schema.metadata[b'table'].decode()}: {wording}") from None


def each_once(rows: pa.Table, key: str) -> pa.Table:
    """The rows by `key`, one of each."""
    rows = rows.sort_by(key)
    ids = rows[key]
    if rows.num_rows < 2:
        return rows
    repeats = pc.equal(ids.slice(1), ids.slice(0, rows.num_rows - 1))
    if not pc.any(repeats).as_py():
        return rows
    return rows.filter(pa.chunked_array([pa.array([True]), *pc.invert(repeats).chunks]))


def parquet_of(rows: pa.Table) -> bytes:
    """Rows as a Parquet file: the same bytes for the same rows and version of the library."""
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd", row_group_size=100_000, write_page_index=True)
    return sink.getvalue()

"""Objects as Arrow tables: how they travel between processes, and how plans store them."""

from collections.abc import Sequence

import pyarrow as pa

from moderation.records import ObjectRef, object_refs

SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("last_modified", pa.timestamp("us", tz="UTC")),
    ]
)


def table_of(objects: Sequence[ObjectRef]) -> pa.Table:
    """Objects in the columns of `SCHEMA`."""
    columns = zip(*objects, strict=True) if objects else ([] for _ in SCHEMA)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def objects_in(table: pa.Table) -> tuple[ObjectRef, ...]:
    """The objects of a table."""
    # Times as integers: pyarrow's own conversion looks up the zone for every value.
    times = table["last_modified"].cast(pa.int64())
    columns = (*(table[name] for name in ("uri", "etag", "size")), times)
    return object_refs(*(column.to_pylist() for column in columns))

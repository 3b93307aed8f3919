"""The stored plan: which objects are in which shard, so that a resumed run has the same shards.

Each shard is stored before it is scored. Its file also says how many objects had been listed, and how many of them found
unchanged, up to there, so that a broken-off listing goes on behind the last planned object without counting twice.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from moderation.records import ObjectRef, Shard
from moderation.results.paths import RunPaths
from moderation.storage import Store

_SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("last_modified", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass(frozen=True, slots=True)
class Listed:
    """How far the listing had come."""

    listed: int
    unchanged: int
    source: int
    """number of the source, from 0"""
    entries: int
    """entries of that source looked at, chosen or not"""
    last_uri: str
    """the last object looked at"""


def store_shard(output: Store, paths: RunPaths, number: int, shard: Shard, listed: Listed) -> None:
    """Store one planned shard."""
    table = pa.table([pa.array(column) for column in zip(*shard.objects, strict=True)], schema=_SCHEMA)
    buffer = io.BytesIO()
    state = json.dumps(asdict(listed))
    pq.write_table(table.replace_schema_metadata({"listed": state}), buffer, compression="zstd")
    output.put(paths.plan(number, shard.name), buffer.getvalue())


def stored_shards(output: Store, paths: RunPaths) -> Iterator[tuple[Shard, Listed]]:
    """The shards planned by earlier attempts, in order."""
    for page in output.list(f"{paths.staging}plan/"):
        for item in page:
            table = pq.read_table(io.BytesIO(output.read(item)))
            listed = Listed(**json.loads((table.schema.metadata or {})[b"listed"]))
            columns = [table[name].to_pylist() for name in _SCHEMA.names]
            name = item.uri.rpartition("-")[2].removesuffix(".parquet")
            yield Shard(name, tuple(ObjectRef(*row) for row in zip(*columns, strict=True))), listed

"""The stored plan: which objects are in which shard, so that a resumed run has the same shards.

Each shard is stored before it is scored. Its file also says how many objects had been listed, and how many of them were
unchanged, up to that point: if the store lists in order, an abandoned listing resumes after the last planned object without
counting twice.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moderation.records import ObjectRef, Shard
from moderation.results.paths import NO_SHARD, RunPaths
from moderation.results.shard_files import FileEntry
from moderation.results.stored_images import StoredShard
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
    """The position of the listing."""

    listed: int
    unchanged: int
    source: int
    """number of the source, from 0"""
    entries: int
    """entries of that source looked at, chosen or not"""
    last_uri: str
    """the last object looked at"""
    missing: int = 0
    """objects that the store said it listed up to there, but did not return"""


@dataclass(frozen=True, slots=True)
class Page:
    """One step of a plan."""

    shard: Shard | None
    """objects that go together; None if all objects listed are in `redecided`"""
    stored: tuple[StoredShard, ...] = ()
    """where the shard's embeddings are; none: its objects are to be scored"""
    redecided: tuple[ObjectRef, ...] = ()
    """objects listed with these whose embeddings are stored: they get shards of their own once the listing has ended"""
    listed: Listed | None = None
    """position of the listing; None for shards of objects listed before"""

    @property
    def objects(self) -> tuple[ObjectRef, ...]:
        """The shard's objects."""
        return self.shard.objects if self.shard is not None else ()


def store_page(output: Store, paths: RunPaths, number: int, page: Page) -> None:
    """Store one step of the plan. Objects to re-decide are stored first: their file is ignored without the other one."""
    if page.redecided:
        output.put(paths.plan_redecided(number), _to_parquet(page.redecided, {}))
    shard = page.shard or Shard(NO_SHARD, ())
    state = {
        "listed": json.dumps(page.listed and asdict(page.listed)),
        "anew": json.dumps(len(page.redecided)),
        "stored": json.dumps([_as_json(one) for one in page.stored]),
    }
    output.put(paths.plan(number, shard.name), _to_parquet(shard.objects, state))


def stored_pages(output: Store, paths: RunPaths) -> Iterator[Page]:
    """The steps that earlier attempts planned, in order."""
    files = [item for listing in output.list(f"{paths.staging}plan/") for item in listing]
    for item in sorted(files):  # some stores list in no order
        number, _, name = item.uri.rpartition("/")[2].removesuffix(".parquet").partition("-")
        objects, state = _from_parquet(output.read(item))
        listed = json.loads(state["listed"])
        yield Page(
            shard=Shard(name, objects) if name != NO_SHARD else None,
            stored=tuple(_stored(one) for one in json.loads(state["stored"])),
            redecided=_from_parquet(output.get(paths.plan_redecided(int(number))))[0] if state["anew"] != "0" else (),
            listed=Listed(**listed) if listed else None,
        )


def _as_json(stored: StoredShard) -> dict[str, object]:
    return {
        "run_id": stored.run_id,
        "decisions": stored.decisions.model_dump(),
        "embeddings": stored.embeddings.model_dump(),
    }


def _stored(content: dict[str, Any]) -> StoredShard:
    return StoredShard(content["run_id"], FileEntry(**content["decisions"]), FileEntry(**content["embeddings"]))


def _to_parquet(objects: Sequence[ObjectRef], state: dict[str, str]) -> bytes:
    columns = zip(*objects, strict=True) if objects else ([] for _ in _SCHEMA)
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(state), buffer, compression="zstd")
    return buffer.getvalue()


def _from_parquet(data: bytes) -> tuple[tuple[ObjectRef, ...], dict[str, str]]:
    table = pq.read_table(io.BytesIO(data))
    columns = [table[name].to_pylist() for name in _SCHEMA.names]
    state = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return tuple(ObjectRef(*row) for row in zip(*columns, strict=True)), state

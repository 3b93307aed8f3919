"""The stored plan: which objects are in which shard, so that a resumed run has the same shards.

Each shard is stored before it is scored. Its file also says how many objects had been listed, and how many of them were
unchanged, up to that point: if the store lists in order, an abandoned listing resumes after the last planned object without
counting twice.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from moderation.planning.object_tables import SCHEMA, objects_in, table_of
from moderation.records import ObjectRef, Shard
from moderation.results.paths import NO_SHARD, RunPaths
from moderation.results.shard_files import FileEntry
from moderation.results.stored_images import StoredShard
from moderation.storage import Store


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
    redecided: Sequence[ObjectRef] = ()
    """objects listed with these whose embeddings are stored: they get shards of their own once the listing has ended"""
    listed: Listed | None = None
    """position of the listing; None for shards of objects listed before"""

    @property
    def objects(self) -> Sequence[ObjectRef]:
        """The shard's objects."""
        return self.shard.objects if self.shard is not None else ()


class StoredPage(NamedTuple):
    """A step of a plan as it is stored."""

    name: str
    """of its shard; `NO_SHARD`: it has none"""
    objects: pa.Table
    redecided: pa.Table
    stored: tuple[StoredShard, ...]
    listed: Listed | None

    def page(self, objects: Sequence[ObjectRef], redecided: Sequence[ObjectRef]) -> Page:
        """The step itself, with its objects as given."""
        shard = Shard(self.name, objects) if self.name != NO_SHARD else None
        return Page(shard, self.stored, redecided, self.listed)


def store_page(output: Store, paths: RunPaths, number: int, page: Page) -> None:
    """Store one step of the plan."""
    name = page.shard.name if page.shard is not None else NO_SHARD
    store_step(
        output, paths, number, StoredPage(name, table_of(page.objects), table_of(page.redecided), page.stored, page.listed)
    )


def store_step(output: Store, paths: RunPaths, number: int, step: StoredPage) -> None:
    """Store one step of the plan. Objects to re-decide are stored first: their file is ignored without the other one."""
    if step.redecided.num_rows:
        output.put(paths.plan_redecided(number), _to_parquet(step.redecided, {}))
    state = {
        "listed": json.dumps(step.listed and asdict(step.listed)),
        "anew": json.dumps(step.redecided.num_rows),
        "stored": json.dumps([_as_json(one) for one in step.stored]),
    }
    output.put(paths.plan(number, step.name), _to_parquet(step.objects, state))


def stored_steps(output: Store, paths: RunPaths) -> list[ObjectRef]:
    """The files of the steps that earlier attempts planned, in order."""
    return sorted(item for listing in output.list(f"{paths.staging}plan/") for item in listing)  # some stores have no order


def read_step(output: Store, paths: RunPaths, file: ObjectRef) -> StoredPage:
    """A step that an earlier attempt planned."""
    number, _, name = file.uri.rpartition("/")[2].removesuffix(".parquet").partition("-")
    objects, state = _from_parquet(output.read(file))
    listed = json.loads(state["listed"])
    redecided = _from_parquet(output.get(paths.plan_redecided(int(number))))[0] if state["anew"] != "0" else objects.slice(0, 0)
    stored = tuple(_stored(one) for one in json.loads(state["stored"]))
    return StoredPage(name, objects, redecided, stored, Listed(**listed) if listed else None)


def planned_objects(uri: str) -> pa.Table:
    """The objects of a stored step, by the URI of its file."""
    store, key = Store.locate(uri)
    return _from_parquet(store.get(key))[0]


def local(step: StoredPage) -> Page:
    """A stored step with its objects in this process."""
    return step.page(objects_in(step.objects), objects_in(step.redecided))


def _as_json(stored: StoredShard) -> dict[str, object]:
    return {
        "run_id": stored.run_id,
        "decisions": stored.decisions.model_dump(),
        "embeddings": stored.embeddings.model_dump(),
    }


def _stored(content: dict[str, Any]) -> StoredShard:
    return StoredShard(content["run_id"], FileEntry(**content["decisions"]), FileEntry(**content["embeddings"]))


def _to_parquet(objects: pa.Table, state: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(objects.replace_schema_metadata(state), buffer, compression="zstd")
    return buffer.getvalue()


def _from_parquet(data: bytes) -> tuple[pa.Table, dict[str, str]]:
    table = pq.read_table(io.BytesIO(data))
    state = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return table.select(SCHEMA.names).replace_schema_metadata(None), state

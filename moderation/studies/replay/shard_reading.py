"""The files of one shard as the manifest names them, with everything that is wrong about them in words."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from moderation.errors import ErrorCode, OutputError, StorageError
from moderation.results import schemas
from moderation.results.manifest import Manifest
from moderation.results.paths import RunPaths
from moderation.results.schemas import Table
from moderation.results.shard_files import FileEntry
from moderation.storage import Store


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The location of a run's files."""

    output: Store
    manifest: Manifest
    folder: str = ""
    """that of a quarantined run, with a slash at the end"""

    @property
    def paths(self) -> RunPaths:
        """The keys that the run's files must have."""
        manifest = self.manifest
        return RunPaths(manifest.run_id, f"{manifest.started_at:%Y-%m-%d}", manifest.model_fingerprint)

    def key(self, entry: FileEntry) -> str:
        """Where a file lies, relative to the output."""
        return f"{self.folder}{entry.path}"


@dataclass(slots=True)
class LoadedShard:
    """One shard, read. A table is missing where its file cannot be read."""

    name: str
    tables: dict[Table, pa.Table] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    later: set[str] = field(default_factory=set)
    """columns of `decisions` that the file lacks since it is of an earlier schema version; they are nulls in `tables`"""

    @property
    def is_whole(self) -> bool:
        """Whether all three tables are there."""
        return len(self.tables) == len(schemas.TABLES)


def shards_of(files: RunFiles) -> tuple[Mapping[str, Mapping[Table, FileEntry]], list[str]]:
    """The files of each shard by its name, and what is wrong with the manifest's list of them."""
    shards: dict[str, dict[Table, FileEntry]] = {}
    problems = []
    for entry in files.manifest.files:
        name = PurePosixPath(entry.path).stem
        if entry.path != files.paths.published(entry.table, name):
            problems.append(f"the manifest names {entry.path!r}, where this run has no file")
        elif entry.table in shards.setdefault(name, {}):
            problems.append(f"the manifest names {entry.path} twice")
        else:
            shards[name][entry.table] = entry
    for name, entries in shards.items():
        missing = [table for table in schemas.TABLES if table not in entries]
        if missing:
            problems.append(f"the manifest names the shard {name} without its {' and '.join(missing)}")
    return dict(sorted(shards.items())), problems


def unnamed_files(files: RunFiles) -> list[str]:
    """One line per file in the run's folders that its manifest does not name: readers of whole folders see it.

    Raises:
        OutputError: the output cannot be listed.
    """
    named = {files.key(entry) for entry in files.manifest.files}
    try:
        return [
            f"{item.uri} is not in the manifest"
            for table in schemas.TABLES
            for page in files.output.list(f"{files.folder}{files.paths.published(table, '').removesuffix('.parquet')}")
            for item in page
            if files.output.key_of(item.uri) not in named
        ]
    except StorageError as error:
        raise OutputError(f"cannot list {files.output.uri}: {error.detail}") from None


def load_shards(files: RunFiles, shards: Mapping[str, Mapping[Table, FileEntry]]) -> Iterator[LoadedShard]:
    """Each shard, one in memory at a time.

    Raises:
        OutputError: the output does not answer. A missing or damaged file is a problem of its shard instead.
    """
    for name, entries in shards.items():
        shard = LoadedShard(name)
        for table, entry in entries.items():
            found = _load(files, entry, shard)
            if found is not None:
                shard.tables[table] = found
        yield shard


def _load(files: RunFiles, entry: FileEntry, shard: LoadedShard) -> pa.Table | None:
    problems = shard.problems
    key = files.key(entry)
    place = files.output.uri_of(key)
    try:
        data = files.output.get(key)
    except StorageError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise OutputError(f"cannot read {place}: {error.detail}") from None
        problems.append(f"{place} is missing; the manifest names it with {entry.rows:,} rows")
        return None
    if len(data) != entry.bytes:
        problems.append(f"{place} has {len(data):,} bytes; the manifest says {entry.bytes:,}")
    try:
        rows = pq.ParquetFile(io.BytesIO(data)).read()
        rows.validate(full=True)
    except (pa.ArrowException, OSError, MemoryError) as error:
        problems.append(f"{place} is damaged: {' '.join(str(error).split())[:200]}")
        return None
    if rows.num_rows != entry.rows:
        problems.append(f"{place} has {rows.num_rows:,} rows; the manifest says {entry.rows:,}")
    if entry.table == "decisions":
        shard.later |= _later(rows.schema)
    return _in_schema(rows, entry.table, place, problems)


def _later(found: pa.Schema) -> set[str]:
    """The columns of decisions that came after the schema version that a file states."""
    stated = (found.metadata or {}).get(b"schema_version", b"")
    version = int(stated) if stated.isdigit() else schemas.VERSION
    return {f.name for f in schemas.DECISIONS if f.name not in found.names and int(f.metadata[b"since"]) > version}


def _in_schema(rows: pa.Table, table: Table, place: str, problems: list[str]) -> pa.Table | None:
    """The columns of today's schema; those that came later are nulls in files from before."""
    found = rows.schema
    dim = 0
    if table == "embeddings" and "embedding" in found.names and pa.types.is_fixed_size_list(found.field("embedding").type):
        dim = found.field("embedding").type.list_size
    for field_ in schemas.schema_of(table, max(dim, 1)):
        if field_.name not in found.names:
            if not field_.nullable:
                problems.append(f"{place} has no column {field_.name}")
                return None
            rows = rows.append_column(field_, pa.nulls(rows.num_rows, field_.type))
        elif not found.field(field_.name).type.equals(field_.type):
            problems.append(f"{place}: the column {field_.name} is {found.field(field_.name).type}, not {field_.type}")
            return None
    return rows.select(schemas.schema_of(table, max(dim, 1)).names)

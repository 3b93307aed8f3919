"""Many small files of a table into few, without losing or doubling a row, whenever it is stopped and whoever reads meanwhile.

The files of a day are merged into one that names those it replaces; these are removed when no reader can still need them. A
file is only removed after its rows were read back from another one, so the order of the writes is all the safety there is:

    1. write the merged file, create-only, and read it back
    2. later, once the merged file is older than `keep`: remove what it replaces

Until then rows are in two files, and readers keep one of each id. Several compactions may run at once: each removes only what
it found in a file that exists, and a file can only replace files that are older than itself.
"""

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from moderation.errors import ErrorCode, OutputError, StorageError
from moderation.records import ObjectRef
from moderation.reviews.store import each_once, files, parquet_of, read_file
from moderation.storage import Store

KEEP = timedelta(hours=1)
"""How long readers that listed the files may need them."""
FULL_ROWS = 500_000
"""A file with so many rows is not merged again."""
_MERGED = "merged-"
_REPLACES = b"replaces"


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did."""

    merged: int = 0
    """files whose rows are now in a merged one as well"""
    written: int = 0
    removed: int = 0
    kept: int = 0
    """replaced files that are still there, since readers may need them; a later compaction removes them"""

    def __add__(self, other: "Compacted") -> "Compacted":
        return Compacted(
            self.merged + other.merged, self.written + other.written, self.removed + other.removed, self.kept + other.kept
        )


def compact(output: Store, folder: str, schema: pa.Schema, key: str, keep: timedelta = KEEP) -> Compacted:
    """Merge the files of each day of the table in a folder such as `reviews/`, whose rows are identified by the column `key`.

    Raises:
        OutputError: the output cannot be read or written; no row is lost, and it can be run again.
    """
    try:
        days: dict[str, list[ObjectRef]] = defaultdict(list)
        for item in files(output, folder):
            days[str(PurePosixPath(output.key_of(item.uri)).parent)].append(item)
        return sum((_Day(output, day, items, schema, key).compacted(keep) for day, items in sorted(days.items())), Compacted())
    except StorageError as error:
        if error.code is ErrorCode.NOT_FOUND:  # another compaction removed it after it was listed
            raise OutputError(f"another compaction of {output.uri_of(folder)} is running: run this one again later") from None
        raise OutputError(f"cannot compact {output.uri_of(folder)}: {error.detail}; no row is lost: run it again") from None


@dataclass(frozen=True, slots=True)
class _Day:
    """The files in one folder `date=…`."""

    output: Store
    folder: str
    items: Sequence[ObjectRef]
    schema: pa.Schema
    key: str

    def compacted(self, keep: timedelta) -> Compacted:
        by_name = {PurePosixPath(item.uri).name: item for item in self.items}
        replaced_by: dict[str, str] = {}
        for name, item in by_name.items():
            replaced_by.update(dict.fromkeys(self._replaces(item), name))
        removed, kept = 0, 0
        for name, merged in replaced_by.items():
            if name in by_name:
                old = datetime.now(UTC) - by_name[merged].last_modified >= keep
                removed += old and self._remove(by_name[name], by_name[merged])
                kept += not old
        return self._merged([item for name, item in by_name.items() if name not in replaced_by]) + Compacted(
            0, 0, removed, kept
        )

    def _replaces(self, item: ObjectRef) -> list[str]:
        if not PurePosixPath(item.uri).name.startswith(_MERGED):
            return []
        with self.output.open(self.output.key_of(item.uri)) as file:
            metadata = pq.ParquetFile(file).schema_arrow.metadata or {}
        return [str(name) for name in json.loads(metadata.get(_REPLACES, b"[]"))]

    def _remove(self, item: ObjectRef, merged: ObjectRef) -> bool:
        """Remove a file whose rows are all in the merged one."""
        rows, others = (read_file(self.output, one, self.schema, [self.key])[self.key] for one in (item, merged))
        if not pc.all(pc.is_in(rows, others), min_count=0).as_py():
            return False
        self.output.delete(self.output.key_of(item.uri))
        return True

    def _merged(self, items: Sequence[ObjectRef]) -> Compacted:
        parts = {item: read_file(self.output, item, self.schema, self.schema.names) for item in items}
        small = {item: rows for item, rows in parts.items() if rows.num_rows < FULL_ROWS}
        if len(small) < 2:
            return Compacted()
        rows = each_once(pa.concat_tables(small.values()).combine_chunks(), self.key)
        # With those that a merged file replaces: they must not come back to life when it is gone.
        names = sorted({name for item in small for name in (PurePosixPath(item.uri).name, *self._replaces(item))})
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]
        path = f"{self.folder}/{_MERGED}{digest}.parquet"
        described = rows.replace_schema_metadata({**self.schema.metadata, _REPLACES: json.dumps(names).encode()})
        with contextlib.suppress(FileExistsError):  # another compaction wrote it, perhaps with another version of the library
            self.output.put(path, parquet_of(described), create_only=True)
        found = read_file(self.output, self.output.head(path), self.schema, self.schema.names)
        if not found.equals(rows):
            raise OutputError(f"{self.output.uri_of(path)} reads back with other rows than were written; nothing was removed")
        return Compacted(merged=len(small), written=1)

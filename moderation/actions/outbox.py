"""The outbox of a target: what is to be delivered, and what happened to it, as a log in storage.

    _actions/<target>/live.json                 the target has gone live
    _actions/<target>/log/<number>.parquet      deliveries, or outcomes of deliveries: created once, never changed
    _actions/<target>/state/<number>.json       a snapshot of everything up to that entry, written last
    _actions/<target>/state/<number>/…          its two files: the newest delivery of each item, and what is still open

Deliveries are written before they are sent and outcomes afterwards, so that a crash repeats deliveries, with the same keys, and
loses none. All entries share one count and are created only if they do not exist: of two runners that got past the lease, one
fails at its next write. A snapshot replaces the entries that it covers; whatever a crash leaves of these is ignored.
"""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from moderation.actions.deliveries import (
    ITEMS,
    Delivery,
    Open,
    Outcome,
    Result,
    as_delivery,
    as_open,
    as_outcome,
    delivery_rows,
    open_rows,
    outcome_rows,
)
from moderation.actions.lease import Lease, LeaseLostError
from moderation.errors import ErrorCode, OutputError, StorageError
from moderation.storage import Store

FOLDER = "_actions/"
COMPACT_AFTER = 200
"""Entries of the log after which a snapshot replaces them."""
_ATTEMPTS = 5


@dataclass
class Outbox:
    """What is known of a target's deliveries."""

    output: Store
    target: str
    number: int = 0
    """of the newest entry"""
    snapshot: int = 0
    """the entry up to which the newest snapshot reaches; 0: there is none"""
    items_in_snapshot: int = 0
    delivered: int = 0
    """deliveries that the target accepted, ever"""
    open: dict[str, Open] = field(default_factory=dict)
    """deliveries that it has not accepted yet, by key, oldest first"""
    recent: list[pa.Table] = field(default_factory=list)
    """the columns of `ITEMS` of each batch since the snapshot"""
    _parked: dict[bytes, set[str]] = field(default_factory=dict)
    """keys of parked deliveries, by item"""

    @property
    def folder(self) -> str:
        """Where it lies in the output."""
        return folder_of(self.target)

    @property
    def entries(self) -> int:
        """Entries of the log since the snapshot."""
        return self.number - self.snapshot

    @property
    def items_since(self) -> int:
        """Deliveries since the snapshot."""
        return sum(len(table) for table in self.recent)

    @property
    def waiting(self) -> list[Open]:
        """Open deliveries that are not parked, oldest first."""
        return [one for one in self.open.values() if not one.parked]

    @property
    def parked(self) -> list[Open]:
        """Deliveries that the target permanently refused, oldest first."""
        return [one for one in self.open.values() if one.parked]

    def items(self) -> Iterator[pa.RecordBatch]:
        """Deliveries with the columns of `ITEMS`: of the snapshot each item's newest, then all since. Raises `StorageError`."""
        if self.snapshot:
            with self.output.open(_items_key(self.folder, self.snapshot)) as file:
                yield from pq.ParquetFile(file).iter_batches()
        for table in self.recent:
            yield from table.to_batches()

    def append_deliveries(self, deliveries: Sequence[Delivery], lease: Lease) -> int:
        """Write a batch that is to be sent, and return its number. Raises `LeaseLostError`, `OutputError`."""
        rows = delivery_rows(deliveries)
        self._append(rows, lease)
        self._add(self.number, rows, deliveries)
        return self.number

    def append_outcomes(self, outcomes: Sequence[Outcome], lease: Lease) -> None:
        """Write what happened to deliveries. Raises `LeaseLostError`, `OutputError`."""
        if outcomes:
            self._append(outcome_rows(outcomes), lease)
            self._apply(outcomes)

    def compact(self, lease: Lease) -> None:
        """Replace the log by a snapshot. Raises `LeaseLostError`, `OutputError`."""
        number, folder = self.number, self.folder
        with _output_errors(self.output), tempfile.TemporaryDirectory(prefix="clip-moderation-") as made:
            lease.check()
            items = Path(made) / "items.parquet"
            count = newest_of_each(self.items(), items)
            self.output.put(_items_key(folder, number), items)
            self.output.put(_open_key(folder, number), _parquet(open_rows(self.open.values())))
            lease.check()
            about = {"items": count, "delivered": self.delivered}
            self.output.put(f"{folder}state/{number:012d}.json", json.dumps(about).encode(), create_only=True)
        self.snapshot, self.items_in_snapshot, self.recent = number, count, []
        with _output_errors(self.output):
            self._remove_covered()

    def _remove_covered(self) -> None:
        """Remove entries and snapshots that the newest snapshot makes needless; manifests before the files that they name."""
        keys = [self.output.key_of(item.uri) for page in self.output.list(self.folder) for item in page]
        covered = [key for key in keys if _number(key, f"{self.folder}log/") <= self.snapshot]
        old = [key for key in keys if _number(key, f"{self.folder}state/") < self.snapshot]
        for key in [*sorted(old, key=lambda key: not key.endswith(".json")), *covered]:
            self.output.delete(key)

    def _append(self, rows: pa.Table, lease: Lease) -> None:
        lease.check()
        key = f"{self.folder}log/{self.number + 1:012d}.parquet"
        try:
            # With the runner in it: stores take the same bytes twice, and no two runners may believe they wrote an entry.
            about = {**(rows.schema.metadata or {}), "runner": lease.runner}
            with _output_errors(self.output):
                self.output.put(key, _parquet(rows.replace_schema_metadata(about)), create_only=True)
        except FileExistsError:
            raise LeaseLostError(f"another run wrote {self.output.uri_of(key)}: this one stops; nothing is lost") from None
        self.number += 1

    def _add(self, number: int, rows: pa.Table, deliveries: Sequence[Delivery]) -> None:
        self.recent.append(rows.select(ITEMS.names))
        self.open.update({one.key: Open(number, one) for one in deliveries})

    def _apply(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.result is Result.DELIVERED:
                done = self.open.pop(outcome.key, None)
                if done is not None:
                    self.delivered += 1
                    self._overtake(done.delivery)
            elif outcome.key in self.open:
                self._note(self.open[outcome.key].after(outcome))

    def _note(self, one: Open) -> None:
        self.open[one.delivery.key] = one
        if one.parked:
            self._parked.setdefault(one.delivery.item, set()).add(one.delivery.key)

    def _overtake(self, done: Delivery) -> None:
        """Forget parked deliveries of the same item that a later one has made pointless."""
        for key in self._parked.pop(done.item, ()):
            one = self.open.get(key)
            if one is not None and one.parked and one.delivery.change < done.change:
                del self.open[key]
            elif one is not None:
                self._note(one)


def folder_of(target: str) -> str:
    """Where a target's outbox lies in the output."""
    return f"{FOLDER}{target}/"


def load(output: Store, target: str) -> Outbox:
    """Read an outbox; one that was never written is empty. Raises `OutputError`."""
    for _ in range(_ATTEMPTS):
        try:
            return _loaded(output, target)
        except StorageError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise OutputError(f"cannot read {output.uri_of(folder_of(target))}: {error.detail}") from None
            # A snapshot replaced a file after it was listed.
    raise OutputError(f"cannot read {output.uri_of(folder_of(target))}: its files keep changing: try again later")


def newest_of_each(batches: Iterator[pa.RecordBatch], file: Path) -> int:
    """Write the newest delivery of each item to a Parquet file, within bounded memory. Returns their number."""
    with duckdb.connect() as connection:
        connection.execute("SET temp_directory = $folder", {"folder": str(file.parent / "spill")})
        connection.register("every", pa.RecordBatchReader.from_batches(ITEMS, batches))
        found = connection.sql(
            "SELECT item, max_by(content, change) AS content, max_by(action, change) AS action, "
            "max_by(policy_hash, change) AS policy_hash, max(change) AS change FROM every GROUP BY item"
        ).to_arrow_reader(100_000)
        count = 0
        with pq.ParquetWriter(file, ITEMS, compression="zstd") as writer:
            for batch in found:
                count += batch.num_rows
                writer.write_table(pa.table(batch.columns, names=ITEMS.names).cast(ITEMS))
    return count


def _loaded(output: Store, target: str) -> Outbox:
    outbox = Outbox(output, target)
    folder = outbox.folder
    keys = _keys(output, folder)
    snapshots = [_number(key, f"{folder}state/") for key in keys if key.endswith(".json") and key.startswith(f"{folder}state/")]
    try:
        if snapshots:
            outbox.snapshot = outbox.number = max(snapshots)
            about = json.loads(output.get(f"{folder}state/{outbox.snapshot:012d}.json"))
            outbox.items_in_snapshot, outbox.delivered = about["items"], about["delivered"]
            rows = pq.read_table(pa.BufferReader(output.get(_open_key(folder, outbox.snapshot))))
            for row in rows.to_pylist():
                outbox._note(as_open(row))
        log = sorted(number for key in keys if (number := _number(key, f"{folder}log/")) < _NONE)
        for number in log:
            if number > outbox.snapshot:
                _read_entry(outbox, number)
                outbox.number = number
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise OutputError(f"{output.uri_of(folder)} has files that this program did not write: {reason}") from None
    return outbox


def _read_entry(outbox: Outbox, number: int) -> None:
    rows = pq.read_table(pa.BufferReader(outbox.output.get(f"{outbox.folder}log/{number:012d}.parquet")))
    if (rows.schema.metadata or {}).get(b"kind") == b"deliveries":
        outbox._add(number, rows, [as_delivery(row) for row in rows.to_pylist()])
    else:
        outbox._apply([as_outcome(row) for row in rows.to_pylist()])


def _keys(output: Store, folder: str) -> list[str]:
    try:
        return [output.key_of(item.uri) for page in output.list(folder) for item in page]
    except StorageError as error:
        raise OutputError(f"cannot read {output.uri}: {error.detail}") from None


_NONE = 10**13


def _number(key: str, folder: str) -> int:
    """The number that a key in a folder begins with; `_NONE` for other keys."""
    digits = key.removeprefix(folder)[:12]
    return int(digits) if key.startswith(folder) and digits.isdigit() else _NONE


def _items_key(folder: str, number: int) -> str:
    return f"{folder}state/{number:012d}/items.parquet"


def _open_key(folder: str, number: int) -> str:
    return f"{folder}state/{number:012d}/open.parquet"


def _parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


@contextlib.contextmanager
def _output_errors(output: Store) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri}: {error.detail}; nothing is lost: run again") from None

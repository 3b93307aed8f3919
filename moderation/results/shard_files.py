"""Writing one shard: rows to Parquet, read back and verified, then put under staging with a receipt as the last step."""

import contextlib
import platform
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from moderation.errors import AccountingError, OutputError, RunError
from moderation.policy.schema import Policy
from moderation.records import BatchSummary, Counts, ScoredBatch, Shard, add_numbers
from moderation.results import schemas
from moderation.results.aggregates import Aggregates, aggregate
from moderation.results.paths import RunPaths
from moderation.results.schemas import Table
from moderation.storage import Store

ROW_GROUP_ROWS: Mapping[Table, int] = {"decisions": 20_000, "scores": 100_000, "embeddings": 4_096}
"""Rows of a row group: a few megabytes each, so that readers can skip and stream."""

_SORT: Mapping[Table, list[tuple[str, str]]] = {
    "decisions": [("uri", "ascending")],
    "scores": [("uri", "ascending"), ("rule", "ascending")],
    "embeddings": [("uri", "ascending"), ("frame", "ascending")],
}


class FileEntry(BaseModel):
    """One Parquet file of a run, as the manifest names it."""

    model_config = ConfigDict(frozen=True)

    table: Table
    path: str
    """relative to the output"""
    rows: int
    bytes: int


class Receipt(BaseModel):
    """The proof that a shard is completely staged, written once. A resumed run skips shards that have one."""

    model_config = ConfigDict(frozen=True)

    shard: str
    attempt: str
    """names the folder in which the one that wrote these files put them: two that write the same shard do not meet"""
    files: tuple[FileEntry, ...]
    counts: Counts
    seconds: Mapping[str, float]
    aggregates: Aggregates
    redecided: int = Field(default=0, validation_alias=AliasChoices("redecided", "decided_anew"))
    """of its objects, those decided from embeddings that an earlier run stored"""

    @property
    def objects(self) -> int:
        """Objects accounted for."""
        return self.counts.scored + self.counts.errors


def write_shard(
    shard: Shard,
    batches: Sequence[ScoredBatch],
    policy: Policy,
    dim: int,
    paths: RunPaths,
    output: Store,
    *,
    redecided: bool = False,
) -> Receipt:
    """Stage the rows of one shard. `redecided`: they were made of embeddings that an earlier run stored.

    Raises:
        AccountingError: a row is missing, or there is one too many.
        RunError: a file reads back with other content than was written.
        OutputError: this machine has no room for the files.
        StorageError: the output refused a file.
    """
    tables: dict[Table, pa.Table] = {
        table: _joined(table, [getattr(batch, table) for batch in batches], dim) for table in schemas.TABLES
    }
    _account_for(shard, tables)
    attempt = secrets.token_hex(4)
    files = []
    with _scratch() as folder:
        for table, rows in tables.items():
            local = folder / f"{table}.parquet"
            write_rows(table, rows, local)
            _verify(rows, local)
            entry = FileEntry(
                table=table, path=paths.published(table, shard.name), rows=rows.num_rows, bytes=local.stat().st_size
            )
            output.put(paths.staged(attempt, entry.path), local)
            files.append(entry)
    summary = total(batch.summary for batch in batches)
    receipt = Receipt(
        shard=shard.name,
        attempt=attempt,
        files=tuple(files),
        counts=summary.counts,
        seconds=summary.seconds,
        aggregates=aggregate(policy, tables["decisions"], tables["scores"], tables["embeddings"]),
        redecided=len(shard.objects) if redecided else 0,
    )
    key = paths.receipt(shard.name)
    try:
        output.put(key, receipt.model_dump_json().encode(), create_only=True)
    except FileExistsError:  # another attempt at this run, thought dead, was faster
        return Receipt.model_validate_json(output.get(key))
    return receipt


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder on this machine for files that are being written."""
    try:
        with tempfile.TemporaryDirectory(prefix="clip-moderation-") as folder:
            yield Path(folder)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise OutputError(
            f"cannot write a shard's files to {tempfile.gettempdir()} on {platform.node()}: {reason}; nothing was published: "
            "free some space there or set TMPDIR to another folder, then resume with the same --run-id"
        ) from None


def total(summaries: Any) -> BatchSummary:
    """The sum of batch summaries."""
    counts, seconds = Counts(), dict[str, float]()
    for summary in summaries:
        counts, seconds = counts + summary.counts, add_numbers(seconds, summary.seconds)
    return BatchSummary(counts, seconds)


def _joined(table: Table, parts: list[pa.Table], dim: int) -> pa.Table:
    schema = schemas.schema_of(table, dim)
    joined = pa.concat_tables(parts) if parts else schema.empty_table()
    return joined.cast(schema).sort_by(_SORT[table])


def _account_for(shard: Shard, tables: Mapping[Table, pa.Table]) -> None:
    planned = sorted(item.uri for item in shard.objects)
    if tables["decisions"]["uri"].to_pylist() != planned:
        raise AccountingError(f"shard {shard.name}: {len(planned)} objects planned, but the rows do not match them")


def write_rows(table: Table, rows: pa.Table, path: Path) -> None:
    """One table's rows as a Parquet file, the way readers find them."""
    # float16 and random text do not repeat; everything else is a dictionary.
    unlike = ("uri", "etag", "sha256", "md5", "pdq", "embedding", "score", "similarity")
    dictionary = [f.name for f in rows.schema if f.name not in unlike]
    # Embeddings shrink by a tenth at most, and reading them is most of the cost of re-deciding: twice as much compressed.
    vectors = "embedding" in rows.column_names
    pq.write_table(
        rows,
        path,
        compression={name: "zstd" for name in rows.column_names if name != "embedding"} if vectors else "zstd",
        use_dictionary=dictionary,
        row_group_size=ROW_GROUP_ROWS[table],
        write_statistics=[name for name in rows.column_names if name != "embedding"],  # nobody seeks a vector by its range
        write_page_index=True,
    )


def _verify(rows: pa.Table, path: Path) -> None:
    found = pq.read_table(path)
    if not found.schema.equals(rows.schema) or not found.equals(rows):
        raise RunError(f"{path.name} has other content than was written to it: check this machine's disk")

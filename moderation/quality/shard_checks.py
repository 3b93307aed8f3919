"""Row-level checks of staged shards in storage: their files, their plan, and every row."""

import gc
import io
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from moderation.errors import ErrorCode, StorageError
from moderation.quality.expectations import Sheet, validate
from moderation.quality.facts import ExpectedRows
from moderation.quality.quality_limits import QualityLimits
from moderation.quality.row_checks import row_sheets
from moderation.quality.row_frames import DECISION_COLUMNS, DICTIONARIES, LIST_COLUMNS, SCORE_COLUMNS
from moderation.quality.staged import StagedShard
from moderation.quality.verdicts import Expectation, Verdict, verdicts
from moderation.results.paths import RunPaths
from moderation.results.schemas import DECISIONS, SCORES, TABLES, Table
from moderation.storage import Store


def check_shards(
    shards: Sequence[StagedShard], paths: RunPaths, output: Store, expected: ExpectedRows, limits: QualityLimits
) -> tuple[Verdict, ...]:
    """Check staged shards. Reads the columns it needs, of decisions and scores; of embeddings only how many there are.

    Raises:
        StorageError: the output does not answer; a missing file is a failed check instead.
    """
    gc.collect()  # Great Expectations holds on to the rows of the last call in circles: the process would grow
    listed = LIST_COLUMNS if expected.policy.active_lists else ()  # resumed runs of earlier versions lack these
    columns: Mapping[Table, tuple[str, ...]] = {
        "decisions": (*DECISION_COLUMNS, *listed), "scores": SCORE_COLUMNS, "embeddings": ()
    }  # fmt: skip
    files = []
    tables: dict[Table, list[pa.Table]] = {table: [] for table in TABLES}
    for receipt, _ in shards:
        entries = {entry.table: entry for entry in receipt.files}
        for table in TABLES:
            entry = entries.get(table)
            rows = None if entry is None else _read(output, paths.staged(receipt.attempt, entry.path), columns[table])
            name = paths.published(table, receipt.shard)
            found = -1 if rows is None else rows.num_rows
            files.append({"file": name, "promised": 0 if entry is None else entry.rows, "found": found})
            if rows is not None:
                tables[table].append(rows)
    decisions = _joined(tables["decisions"], DECISIONS, columns["decisions"])
    scores = _joined(tables["scores"], SCORES, SCORE_COLUMNS)
    sheets = [
        Sheet(pd.DataFrame(files), "file", _FILES),
        Sheet(_planned(output, shards, decisions), "uri", _PLANNED),
    ]
    wanted = [s for s in sheets if limits.severity(s.expectations[0].check) is not None]
    return verdicts(validate([*wanted, *row_sheets(decisions, scores, expected, limits)]), limits)


_FILES = (
    Expectation(
        "shard_files_whole",
        "expect_column_pair_values_to_be_equal",
        {"column_A": "found", "column_B": "promised"},
        "the file exists, can be read, and has the rows that were written; -1: it does not",
    ),
)
_PLANNED = (
    Expectation(
        "shard_objects_planned",
        "expect_column_pair_values_to_be_equal",
        {"column_A": "found", "column_B": "planned"},
        "an object at one version has a row if and only if it is planned",
    ),
)


def _read(output: Store, key: str, columns: tuple[str, ...]) -> pa.Table | None:
    """The columns of a file that are looked at; None if it is not there or cannot be read."""
    try:
        with output.open(key) as file:
            parquet = pq.ParquetFile(file, read_dictionary=[name for name in DICTIONARIES if name in columns])
            return parquet.read(columns=list(columns)) if set(columns) <= set(parquet.schema_arrow.names) else None
    except StorageError as error:
        if error.code is ErrorCode.NOT_FOUND:
            return None
        raise
    except (pa.ArrowException, OSError):
        return None


def _joined(tables: list[pa.Table], schema: pa.Schema, columns: tuple[str, ...]) -> pa.Table:
    return pa.concat_tables(tables) if tables else schema.empty_table().select(list(columns))


def _planned(output: Store, shards: Sequence[StagedShard], decisions: pa.Table) -> pd.DataFrame:
    """Every object that is planned or has a row, with how often it is each (0 or 1)."""
    plans = [pq.read_table(io.BytesIO(output.get(plan)), columns=["uri", "etag"]) for _, plan in shards if plan is not None]
    planned = _versions(pa.concat_tables(plans)) if plans else _versions(decisions.slice(0, 0))
    rows = _versions(decisions)
    extra = pc.invert(pc.is_in(rows["version"], value_set=planned["version"].combine_chunks()))
    found = pc.is_in(planned["version"], value_set=rows["version"].combine_chunks())
    own = pd.DataFrame({"uri": planned["uri"].to_pandas(), "planned": 1, "found": found.to_numpy().astype(int)})
    others = pd.DataFrame({"uri": rows["uri"].filter(extra).to_pandas(), "planned": 0, "found": 1})
    return pd.concat([own, others], ignore_index=True)


def _versions(table: pa.Table) -> pa.Table:
    uri, etag = table["uri"].cast(pa.string()), table["etag"].cast(pa.string())
    return pa.table({"uri": uri, "version": pc.binary_join_element_wise(uri, etag, "\0")})

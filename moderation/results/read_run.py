"""Reading a published run back, by its manifest."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from moderation.results.manifest import Manifest
from moderation.results.schemas import DECISIONS, SCORES
from moderation.storage import Store


def read_decisions(output: Store, manifest: Manifest) -> pa.Table:
    """The decisions of one run."""
    return _read(output, manifest, "decisions", DECISIONS)


def read_scores(output: Store, manifest: Manifest) -> pa.Table:
    """The scores of one run."""
    return _read(output, manifest, "scores", SCORES)


def _read(output: Store, manifest: Manifest, table: str, schema: pa.Schema) -> pa.Table:
    parts = [pq.read_table(io.BytesIO(output.get(e.path))) for e in manifest.files if e.table == table]
    return pa.concat_tables(parts, promote_options="default") if parts else schema.empty_table()

"""What analysts query: views in DuckDB over exactly the files that the manifests of published runs name.

Other files in the folders, of a run being published or abandoned, are ignored. Every view has all columns of the current
schemas; columns that an older file lacks are NULL.
"""

from collections.abc import Iterable, Mapping

import duckdb
import pyarrow as pa

from moderation.query.review_views import REVIEW_VIEWS, ReviewFiles, create_review_views
from moderation.query.view_files import PublishedFile, StoreFileSystem
from moderation.query.view_runs import run_row, runs_table
from moderation.query.view_scan import no_pattern, scan
from moderation.results import schemas
from moderation.results.manifest import Manifest
from moderation.results.schemas import TABLES, Table
from moderation.reviews.meaning import meanings_of
from moderation.reviews.validity import DEFAULT, Validity
from moderation.storage import Store

VIEWS = ("decisions", "latest_decisions", "image_rules", "scores", "embeddings", "errors", "runs", *REVIEW_VIEWS)

# Constant for a file, so that DuckDB skips files by it without opening them. `hive_partitioning` does that too, but cannot be
# combined with `schema`, and takes any `name=value` further up for a column.
_FOLDERS = {
    "model_fingerprint": ("regexp_extract(filename, '/model=([^/]+)/date=[^/]+/run=[^/]+/[^/]+$', 1)", pa.string()),
    "date": ("CAST(regexp_extract(filename, '/date=([^/]+)/run=[^/]+/[^/]+$', 1) AS DATE)", pa.date32()),
    "run": ("regexp_extract(filename, '/run=([^/]+)/[^/]+$', 1)", pa.string()),
}

_LATEST = """
SELECT * FROM decisions QUALIFY row_number() OVER (PARTITION BY uri ORDER BY scored_at DESC, run_id DESC) = 1
"""
_ERRORS = "SELECT * FROM decisions WHERE status = 'error' ORDER BY scored_at DESC, run_id DESC, uri"


_IMAGE_RULES = """
SELECT
    s.uri, s.etag, s.rule, s.category, s.severity, s.mode, s.score, s.review, s.block, s.top_prompt, s.frame,
    s.action AS rule_action,
    s.mode = 'live' AND s.action <> 'allow' AS flags,
    s.mode = 'shadow' AND s.action <> 'allow' AS would_flag,
    d.flagged AND s.rule = d.top_rule AS decides,
    d.action, d.near_threshold, d.policy, d.policy_version, d.policy_hash, d.model_fingerprint, d.sha256, d.pdq,
    d.last_modified, d.scored_at, d.run_id, s.date, s.run
FROM latest_decisions AS d JOIN scores AS s ON s.run = d.run AND s.uri = d.uri
"""
"""Flat: no lists and no maps, for tools that know none."""
_MACROS = ("CREATE MACRO pdq_distance(a, b) AS bit_count(xor(CAST(unhex(a) AS BIT), CAST(unhex(b) AS BIT)))",)
"""Functions that SQL does not have: bits in which two perceptual hashes differ, 0 to 256."""


def view_schema(table: Table) -> pa.Schema:
    """The columns of a view: those of the table, then those in the folders' names."""
    return pa.schema([*_stored(table), *(pa.field(name, _FOLDERS[name][1]) for name in _folders(table))])


def create_views(
    connection: duckdb.DuckDBPyConnection, output: Store, manifests: Iterable[Manifest], validity: Validity = DEFAULT
) -> list[str]:
    """Make `VIEWS` of these runs' files, and of the reviews. Returns the paths that a query must be allowed to read.

    Raises:
        OutputError: a manifest names a file where no run puts one.
    """
    rows = []
    reviews = ReviewFiles.find(output)
    meanings: dict[str, Mapping[str, str]] = {}
    files: dict[Table, list[PublishedFile]] = {table: [] for table in TABLES}
    for manifest in manifests:  # one at a time: they may be long
        rows.append(run_row(manifest))
        if reviews and manifest.policy_hash not in meanings:
            meanings[manifest.policy_hash] = meanings_of(manifest)
        for entry in manifest.files:
            files[entry.table].append(PublishedFile.find(output, entry.table, entry.path, entry.bytes))
    everything = [file for table in TABLES for file in files[table]] + reviews.all
    connection.register_filesystem(StoreFileSystem(output, {file.key: file.bytes for file in everything}))
    for table in TABLES:
        folders = {name: _FOLDERS[name] for name in _folders(table)}
        connection.execute(f"CREATE VIEW {table} AS {scan(_stored(table), folders, [f.path for f in files[table]])}")
    connection.execute(f"CREATE VIEW latest_decisions AS {_LATEST}")
    connection.execute(f"CREATE VIEW image_rules AS {_IMAGE_RULES}")
    connection.execute(f"CREATE VIEW errors AS {_ERRORS}")
    for macro in _MACROS:
        connection.execute(macro)
    connection.register("_runs", runs_table(rows))
    connection.execute("CREATE TABLE runs AS SELECT * FROM _runs")
    connection.unregister("_runs")
    create_review_views(connection, output, reviews, meanings, validity)
    return list({path for file in everything for path in (file.path, no_pattern(file.path))})  # DuckDB asks for both


def _stored(table: Table) -> list[pa.Field]:
    """The columns in the files, as a view shows them."""
    return [pa.field(f.name, _in_view(f.type), metadata=f.metadata) for f in schemas.schema_of(table, 1)]


def _folders(table: Table) -> tuple[str, ...]:
    """The columns in the folders' names; `model` holds the fingerprint and is called so."""
    return ("model_fingerprint", "date", "run") if table == "embeddings" else ("date", "run")


def _in_view(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):  # models differ in dimension, and DuckDB has no float16
        return pa.list_(pa.float32())
    return pa.list_(kind.value_type) if pa.types.is_list(kind) else kind

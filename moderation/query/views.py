"""What analysts query: views in DuckDB over exactly the files that the manifests of published runs name.

Other files in the folders, of a run being published or abandoned, are ignored. Every view has all columns of the current
schemas; columns that an older file lacks are NULL.
"""

from collections.abc import Iterable, Sequence

import duckdb
import pyarrow as pa

from moderation.query.view_files import PublishedFile, StoreFileSystem
from moderation.query.view_runs import run_row, runs_table
from moderation.results import schemas
from moderation.results.manifest import Manifest
from moderation.results.schemas import TABLES, Table
from moderation.storage import Store

VIEWS = ("decisions", "latest_decisions", "image_rules", "list_matches", "scores", "embeddings", "errors", "runs")

_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}

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
_LIST_MATCHES = """
SELECT
    d.uri, d.etag, m.list, m.entry, m.label, m.distance, m.frame, m.turn, m.entries, m.restricted,
    list_contains(d.flags, m.list) AS flags,
    list_contains(d.shadow_flags, m.list) AS would_flag,
    coalesce(d.top_rule = m.list, false) AS decides,
    d.status, d.action, d.policy, d.policy_version, d.policy_hash, d.sha256, d.last_modified, d.scored_at, d.run_id,
    d.date, d.run
FROM latest_decisions AS d, unnest(d.list_matches) AS matched(m)
"""
"""A row per image and hash list that it is on. Flat as well."""
_MACROS = ("CREATE MACRO pdq_distance(a, b) AS bit_count(xor(CAST(unhex(a) AS BIT), CAST(unhex(b) AS BIT)))",)
"""Functions that SQL does not have: bits in which two perceptual hashes differ, 0 to 256."""


def view_schema(table: Table) -> pa.Schema:
    """The columns of a view: those of the table, then those in the folders' names."""
    return pa.schema([*_stored(table), *(pa.field(name, _FOLDERS[name][1]) for name in _folders(table))])


def create_views(connection: duckdb.DuckDBPyConnection, output: Store, manifests: Iterable[Manifest]) -> list[str]:
    """Make `VIEWS` of these runs' files. Returns the paths that a query must be allowed to read.

    Raises:
        OutputError: a manifest names a file where no run puts one.
    """
    rows = []
    files: dict[Table, list[PublishedFile]] = {table: [] for table in TABLES}
    for manifest in manifests:  # one at a time: they may be long
        rows.append(run_row(manifest))
        for entry in manifest.files:
            files[entry.table].append(PublishedFile.find(output, entry.table, entry.path, entry.bytes))
    everything = [file for table in TABLES for file in files[table]]
    connection.register_filesystem(StoreFileSystem(output, {file.key: file.bytes for file in everything}))
    for table in TABLES:
        connection.execute(f"CREATE VIEW {table} AS {_scan(table, [f.path for f in files[table]])}")
    connection.execute(f"CREATE VIEW latest_decisions AS {_LATEST}")
    connection.execute(f"CREATE VIEW image_rules AS {_IMAGE_RULES}")
    connection.execute(f"CREATE VIEW list_matches AS {_LIST_MATCHES}")
    connection.execute(f"CREATE VIEW errors AS {_ERRORS}")
    for macro in _MACROS:
        connection.execute(macro)
    connection.register("_runs", runs_table(rows))
    connection.execute("CREATE TABLE runs AS SELECT * FROM _runs")
    connection.unregister("_runs")
    return list({path for file in everything for path in (file.path, _no_pattern(file.path))})  # DuckDB asks for both


def _scan(table: Table, paths: Sequence[str]) -> str:
    """SQL that reads files by the names of their columns. No file is opened to find out what it has."""
    if not paths:
        columns = ", ".join(f'CAST(NULL AS {sql_type(f.type)}) AS "{f.name}"' for f in view_schema(table))
        return f"SELECT {columns} WHERE false"
    stored = ", ".join(
        f"'{f.name}': {{name: '{f.name}', type: '{sql_type(f.type)}', default_value: NULL}}" for f in _stored(table)
    )
    columns = ", ".join(
        [*(f'"{f.name}"' for f in _stored(table)), *(f'{_FOLDERS[name][0]} AS "{name}"' for name in _folders(table))]
    )
    files = ", ".join(_literal(_no_pattern(path)) for path in paths)
    return f"SELECT {columns} FROM read_parquet([{files}], schema = MAP {{{stored}}})"  # noqa: S608


def _stored(table: Table) -> list[pa.Field]:
    """The columns in the files, as a view shows them."""
    return [pa.field(f.name, _in_view(f.type), metadata=f.metadata) for f in schemas.schema_of(table, 1)]


def _folders(table: Table) -> tuple[str, ...]:
    """The columns in the folders' names; `model` holds the fingerprint and is called so."""
    return ("model_fingerprint", "date", "run") if table == "embeddings" else ("date", "run")


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of a column type of the views."""
    if pa.types.is_struct(kind):
        fields = ", ".join(f'"{field.name}" {sql_type(field.type)}' for field in kind)
        return str(duckdb.sqltype(f"STRUCT({fields})"))  # as DuckDB writes it
    return f"{sql_type(kind.value_type)}[]" if pa.types.is_list(kind) else _SQL_TYPES[kind]


def _in_view(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):  # models differ in dimension, and DuckDB has no float16
        return pa.list_(pa.float32())
    return pa.list_(kind.value_type) if pa.types.is_list(kind) else kind


def _no_pattern(path: str) -> str:
    """A path as DuckDB takes it word for word."""
    return "".join(f"[{c}]" if c in "[*?" else c for c in path)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

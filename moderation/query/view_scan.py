"""SQL that reads Parquet files of known columns, some of them in the folders' names."""

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}


def scan(stored: Sequence[pa.Field], folders: Mapping[str, tuple[str, pa.DataType]], paths: Sequence[str]) -> str:
    """SELECT the columns of files by their names, then those in the folders' names, of which SQL over `filename` is given.

    No file is opened to find out what it has; columns that it lacks are NULL.
    """
    if not paths:
        kinds = [(f.name, f.type) for f in stored] + [(name, kind) for name, (_, kind) in folders.items()]
        columns = ", ".join(f'CAST(NULL AS {sql_type(kind)}) AS "{name}"' for name, kind in kinds)
        return f"SELECT {columns} WHERE false"
    schema = ", ".join(f"'{f.name}': {{name: '{f.name}', type: '{sql_type(f.type)}', default_value: NULL}}" for f in stored)
    columns = ", ".join([*(f'"{f.name}"' for f in stored), *(f'{sql} AS "{name}"' for name, (sql, _) in folders.items())])
    files = ", ".join(_literal(no_pattern(path)) for path in paths)
    return f"SELECT {columns} FROM read_parquet([{files}], schema = MAP {{{schema}}})"  # noqa: S608


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of a column type of the views."""
    if pa.types.is_struct(kind):
        fields = ", ".join(f'"{field.name}" {sql_type(field.type)}' for field in kind)
        return str(duckdb.sqltype(f"STRUCT({fields})"))  # as DuckDB writes it
    return f"{sql_type(kind.value_type)}[]" if pa.types.is_list(kind) else _SQL_TYPES[kind]


def no_pattern(path: str) -> str:
    """A path as DuckDB takes it word for word."""
    return "".join(f"[{c}]" if c in "[*?" else c for c in path)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

"""The tables are a promise: names, order, types, nullability and descriptions."""

import os
from typing import get_args

import places
import pyarrow as pa
import pytest

from moderation.results import schemas

GOLDEN = places.GOLDEN


@pytest.mark.parametrize("schema", [schemas.schema_of(table, 512) for table in schemas.TABLES], ids=schemas.TABLES)
def test_columns_are_described_and_new_ones_are_nullable(schema: pa.Schema) -> None:
    for field in schema:
        assert field.metadata[b"description"], field.name
        assert 1 <= int(field.metadata[b"since"]) <= schemas.VERSION
        assert field.nullable or field.metadata[b"since"] == b"1", f"{field.name} would be missing in files of version 1"
    assert schema.metadata[b"schema_version"] == str(schemas.VERSION).encode()


def test_the_subject_of_a_column_stays_out_of_files() -> None:
    assert {key for schema in (schemas.DECISIONS, schemas.SCORES) for field in schema for key in field.metadata} == {
        b"description",
        b"since",
    }


def test_every_column_of_decisions_has_one_subject() -> None:
    subjects = [schemas.columns(subject) for subject in get_args(schemas.Subject)]
    assert all(subjects)
    assert sorted(name for names in subjects for name in names) == sorted(schemas.DECISIONS.names)
    assert schemas.columns("object", "image", "decision", "identity") == tuple(schemas.DECISIONS.names)


def test_columns_have_the_documented_types() -> None:
    utc = pa.timestamp("us", tz="UTC")
    assert schemas.DECISIONS.field("scored_at").type == utc
    assert schemas.DECISIONS.field("flags").type.value_type == pa.string()
    assert schemas.SCORES.field("score").type == pa.float32()
    assert schemas.embeddings(512).field("embedding").type == pa.list_(pa.field("element", pa.float16(), nullable=False), 512)


@pytest.mark.parametrize("table", schemas.TABLES)
def test_the_schema_is_the_one_in_the_golden_file(table: schemas.Table) -> None:
    """`make golden` refreshes it. A column that is there may neither go nor change; a new one is nullable."""
    file = GOLDEN / f"schema-{table}.txt"
    lines = [
        f"{f.name}\t{f.type}\t{'nullable' if f.nullable else 'not null'}\tsince {f.metadata[b'since'].decode()}\n"
        for f in schemas.schema_of(table, 512)
    ]
    if os.environ.get("REFRESH_GOLDEN"):
        file.write_text("".join(lines))
    assert "".join(lines) == file.read_text()

"""The tables are a promise: names, order, types, nullability and descriptions."""

import os

import places
import pyarrow as pa
import pytest

from moderation.results import schemas

GOLDEN = places.GOLDEN

DECISIONS = [
    "run_id",
    "uri",
    "etag",
    "size_bytes",
    "last_modified",
    "status",
    "error_code",
    "error_detail",
    "retryable",
    "format",
    "width",
    "height",
    "frames",
    "frame",
    "sha256",
    "pdq",
    "pdq_quality",
    "damaged",
    "action",
    "flagged",
    "flags",
    "shadow_flags",
    "top_rule",
    "top_category",
    "top_score",
    "top_threshold",
    "near_threshold",
    "policy",
    "policy_version",
    "policy_hash",
    "model",
    "model_fingerprint",
    "scored_at",
]
SCORES = [
    "run_id",
    "uri",
    "etag",
    "rule",
    "category",
    "severity",
    "mode",
    "score",
    "similarity",
    "top_prompt",
    "review",
    "block",
    "action",
    "frame",
]
EMBEDDINGS = ["run_id", "uri", "etag", "sha256", "frame", "embedding"]


@pytest.mark.parametrize(
    ("schema", "names"),
    [(schemas.DECISIONS, DECISIONS), (schemas.SCORES, SCORES), (schemas.embeddings(512), EMBEDDINGS)],
)
def test_columns_are_those_of_the_contract_and_described(schema: pa.Schema, names: list[str]) -> None:
    assert schema.names == names
    for field in schema:
        assert field.metadata[b"description"], field.name
        assert 1 <= int(field.metadata[b"since"]) <= schemas.VERSION
        assert field.nullable or field.metadata[b"since"] == b"1", f"{field.name} would be missing in files of version 1"
    assert schema.metadata[b"schema_version"] == b"3"


def test_columns_have_the_documented_types() -> None:
    utc = pa.timestamp("us", tz="UTC")
    assert schemas.DECISIONS.field("scored_at").type == utc
    assert schemas.DECISIONS.field("flags").type.value_type == pa.string()
    assert schemas.SCORES.field("score").type == pa.float32()
    assert schemas.embeddings(512).field("embedding").type == pa.list_(pa.field("element", pa.float16(), nullable=False), 512)
    nullable = {f.name for f in schemas.DECISIONS if f.nullable}
    assert nullable == {
        *("error_code", "error_detail", "format", "width", "height", "frames", "frame", "sha256"),
        *("pdq", "pdq_quality", "damaged"),
        *("top_rule", "top_category", "top_score", "top_threshold"),
    }


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

"""The three tables as Arrow schemas. Pure: nothing but pyarrow comes in here.

Every column carries its description in the field's metadata, from where it goes into the Parquet files and the data dictionary.
A schema only ever gains nullable columns: `VERSION` counts these times, and `since` in the metadata is the one that brought a
column.
"""

from typing import Literal

import pyarrow as pa

VERSION = 3

Table = Literal["decisions", "scores", "embeddings"]
TABLES: tuple[Table, ...] = ("decisions", "scores", "embeddings")

_UTC = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False, since: int = 1) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description, "since": str(since)})


def _schema(table: Table, description: str, fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(fields, metadata={"table": table, "description": description, "schema_version": str(VERSION)})


_RUN_ID = _field("run_id", _TEXT, "the run that wrote this row")
_URI = _field("uri", _TEXT, "URI of the object; its key is not escaped")
_ETAG = _field("etag", _TEXT, "the object's version when it was listed; local files get one made of inode, time and size")

DECISIONS = _schema(
    "decisions",
    "one row per object: the decision and the reason for it",
    [
        _RUN_ID,
        _URI,
        _ETAG,
        _field("size_bytes", pa.int64(), "size of the object when it was listed"),
        _field("last_modified", _UTC, "when the object was last modified"),
        _field("status", _TEXT, "scored | error"),
        _field("error_code", _TEXT, "code of the error; null when scored", nullable=True),
        _field("error_detail", _TEXT, "description of the error", nullable=True),
        _field("retryable", pa.bool_(), "whether a retry may succeed (`--retry-errors`); false when scored"),
        _field(
            "format",
            _TEXT,
            "JPEG, PNG, WEBP, GIF, BMP, ICO, CUR, TIFF, AVIF, HEIF or one of `formats`; null if unreadable",
            nullable=True,
        ),
        _field("width", pa.int32(), "pixels as stored, before EXIF orientation", nullable=True),
        _field("height", pa.int32(), "pixels as stored, before EXIF orientation", nullable=True),
        _field("frames", pa.int32(), "frames or pages in the file", nullable=True),
        _field("frame", pa.int32(), "the frame that gave the top rule its score, counted from 0", nullable=True),
        _field("sha256", _TEXT, "SHA-256 of the object's bytes, 64 hex digits; null if they could not be read", nullable=True),
        _field(
            "pdq",
            _TEXT,
            "perceptual hash (PDQ) of the first frame, of a HEIF its primary image, 64 hex digits: near-identical images "
            "differ in at most 31 of 256 bits; null if it could not be computed",
            nullable=True,
            since=2,
        ),
        _field(
            "pdq_quality",
            pa.int32(),
            "quality of the hash, 0 to 100, from the amount of detail in the picture; below 50 the hash is unreliable",
            nullable=True,
            since=2,
        ),
        _field(
            "damaged",
            _TEXT,
            "damage in the file of a scored image, which was scored as browsers show it; null if none",
            nullable=True,
            since=3,
        ),
        _field(
            "action",
            _TEXT,
            "allow | review | block: the strongest of the live rules; `unreadable` or `unsupported` of the policy on error",
        ),
        _field("flagged", pa.bool_(), "whether a live rule asked for review or block; false on error"),
        _field("flags", pa.list_(pa.field("element", _TEXT, nullable=False)), "ids of the live rules that act"),
        _field("shadow_flags", pa.list_(pa.field("element", _TEXT, nullable=False)), "ids of shadow rules that would act"),
        _field(
            "top_rule",
            _TEXT,
            "the live rule that decided: strongest action, then severity, then margin; for an allowed image, the closest one",
            nullable=True,
        ),
        _field("top_category", _TEXT, "category of the top rule", nullable=True),
        _field("top_score", pa.float32(), "score of the top rule", nullable=True),
        _field(
            "top_threshold",
            pa.float32(),
            "the threshold the top rule reached; for an allowed image, the closest one",
            nullable=True,
        ),
        _field("near_threshold", pa.bool_(), "whether a live rule's score is within the policy's `near` of a threshold"),
        _field("policy", _TEXT, "name of the policy"),
        _field("policy_version", _TEXT, "the policy's version as its file states it"),
        _field("policy_hash", _TEXT, "identity of the policy: hash of its content"),
        _field("model", _TEXT, "name of the model"),
        _field("model_fingerprint", _TEXT, "identity of the model; rows of different fingerprints are not comparable"),
        _field("scored_at", _UTC, "when this row was created"),
    ],
)

SCORES = _schema(
    "scores",
    "one row per scored object and rule: the evidence",
    [
        _RUN_ID,
        _URI,
        _ETAG,
        _field("rule", _TEXT, "id of the rule"),
        _field("category", _TEXT, "category of the rule"),
        _field("severity", _TEXT, "low | medium | high | critical"),
        _field("mode", _TEXT, "live | shadow"),
        _field("score", pa.float32(), "the rule's score, the maximum over frames; not a probability"),
        _field("similarity", pa.float32(), "highest CLIP cosine among the rule's prompts in that frame, -1 to 1"),
        _field("top_prompt", _TEXT, "the prompt with that cosine"),
        _field("review", pa.float32(), "the rule's review threshold", nullable=True),
        _field("block", pa.float32(), "the rule's block threshold", nullable=True),
        _field("action", _TEXT, "allow | review | block: the action of this rule alone, also for shadow rules"),
        _field("frame", pa.int32(), "the frame with the highest score, counted from 0"),
    ],
)


def embeddings(dim: int) -> pa.Schema:
    """The schema of the embeddings of a model of dimension `dim`."""
    return _schema(
        "embeddings",
        "one row per scored object and frame, from which scores are computed",
        [
            _RUN_ID,
            _URI,
            _ETAG,
            _field("sha256", _TEXT, "SHA-256 of the object's bytes"),
            _field("frame", pa.int32(), "the frame, counted from 0"),
            _field("embedding", pa.list_(pa.field("element", pa.float16(), nullable=False), dim), "unit CLIP image embedding"),
        ],
    )


def schema_of(table: Table, dim: int) -> pa.Schema:
    """The schema of a table, for a model of dimension `dim`."""
    return {"decisions": DECISIONS, "scores": SCORES, "embeddings": embeddings(dim)}[table]

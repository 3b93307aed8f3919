"""The three tables as Arrow schemas. Pure: nothing but pyarrow comes in here.

Every column carries its description in the field's metadata, from where it goes into the Parquet files and the data dictionary.
A schema only ever gains nullable columns: `VERSION` counts these times, and `since` in the metadata is the one that brought a
column. A new column of `decisions` stands here with its subject, and where it is computed: `judging.judged_columns` if it tells
of the decision, `decision_rows.Embedded` if of the image. What copies, compares and documents columns asks for subjects.
"""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

VERSION = 4

Table = Literal["decisions", "scores", "embeddings"]
TABLES: tuple[Table, ...] = ("decisions", "scores", "embeddings")

Subject = Literal["object", "image", "decision", "identity"]
"""What a column of `decisions` tells of: the object as it was listed; what reading it gave, which no policy changes; what
follows from scores and thresholds; by which run, policy and model it was decided, and when."""

_UTC = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False, since: int = 1) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description, "since": str(since)})


def _schema(table: Table, description: str, fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(fields, metadata={"table": table, "description": description, "schema_version": str(VERSION)})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `decisions`, and what it describes. The subject does not go into files."""

    subject: Subject
    field: pa.Field


def _column(subject: Subject, name: str, kind: pa.DataType, description: str, nullable: bool = False, since: int = 1) -> Column:
    return Column(subject, _field(name, kind, description, nullable, since))


_NAMES = pa.list_(pa.field("element", _TEXT, nullable=False))

LIST_MATCH = pa.struct(
    [
        pa.field("list", _TEXT, nullable=False),
        pa.field("entry", _TEXT, nullable=False),
        pa.field("label", _TEXT),
        pa.field("distance", pa.int32(), nullable=False),
        pa.field("frame", pa.int32()),
        pa.field("turn", _TEXT),
        pa.field("entries", pa.int32(), nullable=False),
        pa.field("restricted", pa.bool_(), nullable=False),
    ]
)
"""An image's match with a hash list."""

_RUN_ID = _field("run_id", _TEXT, "the run that wrote this row")
_URI = _field("uri", _TEXT, "URI of the object; its key is not escaped")
_ETAG = _field("etag", _TEXT, "the object's version when it was listed; local files get one made of inode, time and size")

_DECISIONS = (
    Column("identity", _RUN_ID),
    Column("object", _URI),
    Column("object", _ETAG),
    _column("object", "size_bytes", pa.int64(), "size of the object when it was listed"),
    _column("object", "last_modified", _UTC, "when the object was last modified"),
    _column("image", "status", _TEXT, "scored | error"),
    _column("image", "error_code", _TEXT, "code of the error; null when scored", nullable=True),
    _column("image", "error_detail", _TEXT, "description of the error", nullable=True),
    _column("image", "retryable", pa.bool_(), "whether a retry may succeed (`--retry-errors`); false when scored"),
    _column(
        "image",
        "format",
        _TEXT,
        "JPEG, PNG, WEBP, GIF, BMP, ICO, CUR, TIFF, AVIF, HEIF, JXL, SVG or one of `formats`; null if unreadable",
        nullable=True,
    ),
    _column("image", "width", pa.int32(), "pixels as stored, before EXIF orientation", nullable=True),
    _column("image", "height", pa.int32(), "pixels as stored, before EXIF orientation", nullable=True),
    _column("image", "frames", pa.int32(), "frames or pages in the file", nullable=True),
    _column(
        "decision",
        "frame",
        pa.int32(),
        "the frame that gave the top rule its score, or that matched the list, from 0",
        nullable=True,
    ),
    _column(
        "image", "sha256", _TEXT, "SHA-256 of the object's bytes, 64 hex digits; null if they could not be read", nullable=True
    ),
    _column(
        "image",
        "md5",
        _TEXT,
        "MD5 of the object's bytes, 32 hex digits; computed only under a policy with an MD5 list, null otherwise",
        nullable=True,
        since=4,
    ),
    _column(
        "image",
        "pdq",
        _TEXT,
        "perceptual hash (PDQ) of the first frame, of a HEIF its primary image, 64 hex digits: near-identical images "
        "differ in at most 31 of 256 bits; null if it could not be computed",
        nullable=True,
        since=2,
    ),
    _column(
        "image",
        "pdq_quality",
        pa.int32(),
        "quality of the hash, 0 to 100, from the amount of detail in the picture; below 50 the hash is unreliable",
        nullable=True,
        since=2,
    ),
    _column(
        "image",
        "damaged",
        _TEXT,
        "damage in the file of a scored image, which was scored as browsers show it; null if none",
        nullable=True,
        since=3,
    ),
    _column(
        "decision",
        "action",
        _TEXT,
        "allow | review | block: the strongest of the live rules, unless a hash list decides; `unreadable` or `unsupported` "
        "of the policy on error",
    ),
    _column(
        "decision",
        "flagged",
        pa.bool_(),
        "whether a live rule or hash list asked for review or block; on error, whether a hash list did",
    ),
    _column("decision", "flags", _NAMES, "ids of the live rules and hash lists that act"),
    _column("decision", "shadow_flags", _NAMES, "ids of shadow rules and hash lists that would act"),
    _column(
        "decision",
        "overridden",
        _NAMES,
        "ids of the live rules that would act but for a hash list that allows; null if none",
        nullable=True,
        since=4,
    ),
    _column(
        "decision",
        "list_matches",
        pa.list_(pa.field("element", LIST_MATCH, nullable=False)),
        "hash lists that the image is on, shadow ones too, with the nearest entry of each: `list`, `entry` (hex digits), its "
        "`label`, `distance` (bits; 0 for SHA-256 and MD5), `frame` (PDQ only), `turn` (how the entry was turned or mirrored, "
        "if it was), `entries` (how many of the list match) and `restricted` (nothing of the image may be shown); null if none",
        nullable=True,
        since=4,
    ),
    _column(
        "decision",
        "top_rule",
        _TEXT,
        "the live rule or hash list that decided. Of rules: strongest action, then severity, then margin; for an allowed "
        "image, the closest one",
        nullable=True,
    ),
    _column("decision", "top_category", _TEXT, "category of the top rule", nullable=True),
    _column("decision", "top_score", pa.float32(), "score of the top rule; null if a hash list decided", nullable=True),
    _column(
        "decision",
        "top_threshold",
        pa.float32(),
        "the threshold the top rule reached; for an allowed image, the closest one; null if a hash list decided",
        nullable=True,
    ),
    _column(
        "decision", "near_threshold", pa.bool_(), "whether a live rule's score is within the policy's `near` of a threshold"
    ),
    _column("identity", "policy", _TEXT, "name of the policy"),
    _column("identity", "policy_version", _TEXT, "the policy's version as its file states it"),
    _column("identity", "policy_hash", _TEXT, "identity of the policy: hash of its content"),
    _column("identity", "model", _TEXT, "name of the model"),
    _column("identity", "model_fingerprint", _TEXT, "identity of the model; rows of different fingerprints are not comparable"),
    _column("identity", "scored_at", _UTC, "when this row was created"),
)

DECISIONS = _schema(
    "decisions", "one row per object: the decision and the reason for it", [column.field for column in _DECISIONS]
)


def columns(*subjects: Subject) -> tuple[str, ...]:
    """The columns of `decisions` that describe these subjects, in their order."""
    return tuple(column.field.name for column in _DECISIONS if column.subject in subjects)


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
        _field(
            "similarity",
            pa.float32(),
            "highest cosine with the rule's prompts or liked exemplars, or with its head, in that frame, -1 to 1",
        ),
        _field("top_prompt", _TEXT, "the prompt or exemplar with that cosine, or the file of the head"),
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
            _field(
                "pdq",
                _TEXT,
                "perceptual hash (PDQ) of this frame, 64 hex digits; null in rows of earlier versions",
                nullable=True,
                since=4,
            ),
            _field("pdq_quality", pa.int32(), "its quality, 0 to 100", nullable=True, since=4),
            _field("embedding", pa.list_(pa.field("element", pa.float16(), nullable=False), dim), "unit CLIP image embedding"),
        ],
    )


def schema_of(table: Table, dim: int) -> pa.Schema:
    """The schema of a table, for a model of dimension `dim`."""
    return {"decisions": DECISIONS, "scores": SCORES, "embeddings": embeddings(dim)}[table]

"""The rows of a batch: what was embedded, and what could not be, as Arrow tables in the stored schemas."""

from dataclasses import dataclass, fields, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.errors import ErrorCode
from moderation.lists.lookup import ImageHashes
from moderation.records import BatchSummary, Counts, ObjectRef, ScoredBatch
from moderation.results import schemas
from moderation.scoring.columns import embedding_column, same
from moderation.scoring.judging import RowContext, identity_columns, judge, judged_columns, score_rows
from moderation.scoring.unscored import judge_unscored, unscored_columns


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that could not be scored."""

    object: ObjectRef
    code: ErrorCode
    detail: str
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """An object with its embeddings, one row of `rows` of the batch's embedding matrix per frame."""

    object: ObjectRef
    sha256: str
    format: str
    width: int
    height: int
    frames: int
    frame_indexes: tuple[int, ...]
    pdq: str | None = None
    pdq_quality: int | None = None
    damaged: str | None = None
    md5: str | None = None
    frame_hashes: tuple[tuple[str, int], ...] = ()
    """PDQ and its quality of each frame of `frame_indexes`; empty where they are not known"""


_OF_IMAGES = [schemas.DECISIONS.field(f.name) for f in fields(Embedded) if f.name in schemas.columns("image")]
"""Columns of decisions that have the name of what an `Embedded` holds."""


def build_rows(
    context: RowContext,
    embedded: list[Embedded],
    vectors: NDArray[np.float16],
    failures: list[Failure],
    now: datetime,
) -> ScoredBatch:
    """The rows of a batch. `vectors` float16 [F, D] holds the frames of `embedded`, in order."""
    starts = np.cumsum([0, *(len(e.frame_indexes) for e in embedded)])
    frames = np.array([i for e in embedded for i in e.frame_indexes], np.int32)
    hashes = _frame_hashes(embedded)
    images = ImageHashes(
        pa.array([e.sha256 for e in embedded], pa.string()),
        pa.array([e.md5 for e in embedded], pa.string()),
        hashes["pdq"],
        hashes["pdq_quality"],
        starts,
        frames,
    )
    judged = judge(context.compiled, vectors, images)
    count = len(embedded)
    keys = _keys(context, [e.object for e in embedded])
    scored = pa.table(
        {
            **keys,
            **_object_columns([e.object for e in embedded]),
            "status": same("scored", count),
            "error_code": pa.nulls(count, pa.string()),
            "error_detail": pa.nulls(count, pa.string()),
            "retryable": pa.repeat(pa.scalar(value=False), count),
            **{f.name: pa.array([getattr(e, f.name) for e in embedded], f.type) for f in _OF_IMAGES},
            **judged_columns(judged),
            **identity_columns(context, count, now),
        }
    )
    damaged = sum(e.damaged is not None for e in embedded)
    errors, of_errors = error_rows(context, failures, now)
    return ScoredBatch(
        BatchSummary(replace(judged.counts(), damaged=damaged) + of_errors, {}),
        pa.concat_tables([scored.select(schemas.DECISIONS.names).cast(schemas.DECISIONS), errors]),
        score_rows(keys, judged),
        _embedding_rows(context, embedded, images, vectors),
    )


def failed_batch(context: RowContext, failures: list[Failure], now: datetime) -> ScoredBatch:
    """A batch in which nothing could be scored."""
    errors, counts = error_rows(context, failures, now)
    return ScoredBatch(
        BatchSummary(counts, {}),
        errors,
        schemas.SCORES.empty_table(),
        schemas.embeddings(context.compiled.dim).empty_table(),
    )


def error_rows(context: RowContext, failures: list[Failure], now: datetime) -> tuple[pa.Table, Counts]:
    """The decision rows of objects that could not be scored, and their sums.

    The policy's `unreadable` or `unsupported` decides, unless a hash list does.
    """
    count = len(failures)
    objects = [f.object for f in failures]
    sha256, md5 = (pa.array(found, pa.string()) for found in ([f.sha256 for f in failures], [f.md5 for f in failures]))
    judged = judge_unscored(context.compiled, [f.code.value for f in failures], ImageHashes.of_bytes(sha256, md5))
    values = {
        **_keys(context, objects),
        **_object_columns(objects),
        "error_code": pa.array([f.code.value for f in failures], pa.string()),
        "error_detail": pa.array([f.detail for f in failures], pa.string()),
        "sha256": sha256,
        "md5": md5,
        **unscored_columns(judged),
        **identity_columns(context, count, now),
    }
    return pa.table({name: values[name] for name in schemas.DECISIONS.names}, schema=schemas.DECISIONS), judged.counts()


def _keys(context: RowContext, objects: list[ObjectRef]) -> dict[str, pa.Array]:
    return {
        "run_id": same(context.run_id, len(objects)),
        "uri": pa.array([o.uri for o in objects], pa.string()),
        "etag": pa.array([o.etag for o in objects], pa.string()),
    }


def _object_columns(objects: list[ObjectRef]) -> dict[str, pa.Array]:
    return {
        "size_bytes": pa.array([o.size for o in objects], pa.int64()),
        "last_modified": pa.array([o.last_modified for o in objects], pa.timestamp("us", tz="UTC")),
    }


def _frame_hashes(embedded: list[Embedded]) -> dict[str, pa.Array]:
    """Of each frame, its PDQ and the quality of that."""
    found = [one for e in embedded for one in e.frame_hashes or ((None, None),) * len(e.frame_indexes)]
    return {
        "pdq": pa.array([hash_ for hash_, _ in found], pa.string()),
        "pdq_quality": pa.array([quality for _, quality in found], pa.int32()),
    }


def _embedding_rows(
    context: RowContext, embedded: list[Embedded], images: ImageHashes, vectors: NDArray[np.float16]
) -> pa.Table:
    owners = [e for e in embedded for _ in e.frame_indexes]
    return pa.table(
        {
            **_keys(context, [e.object for e in owners]),
            "sha256": pa.array([e.sha256 for e in owners], pa.string()),
            "frame": pa.array(images.frames, pa.int32()),
            "pdq": images.pdq,
            "pdq_quality": images.quality,
            "embedding": embedding_column(vectors),
        },
        schema=schemas.embeddings(vectors.shape[1]),
    )

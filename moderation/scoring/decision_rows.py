"""The rows of a batch: what was embedded, and what could not be, as Arrow tables in the stored schemas."""

from collections import Counter
from dataclasses import dataclass, fields, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.errors import ErrorCode
from moderation.records import BatchSummary, Counts, ObjectRef, ScoredBatch
from moderation.results import schemas
from moderation.scoring.judging import (
    RowContext,
    embedding_column,
    error_columns,
    identity_columns,
    judge,
    judged_columns,
    same,
    score_rows,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that could not be scored."""

    object: ObjectRef
    code: ErrorCode
    detail: str
    sha256: str | None = None


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
    judged = judge(context.compiled, vectors, starts, frames)
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
    counts = replace(judged.counts(), errored=_errors_by_code(failures), damaged=damaged)
    return ScoredBatch(
        BatchSummary(counts, {}),
        pa.concat_tables([scored.select(schemas.DECISIONS.names).cast(schemas.DECISIONS), error_rows(context, failures, now)]),
        score_rows(keys, judged),
        _embedding_rows(context, embedded, frames, vectors),
    )


def failed_batch(context: RowContext, failures: list[Failure], now: datetime) -> ScoredBatch:
    """A batch in which nothing could be scored."""
    return ScoredBatch(
        BatchSummary(Counts(errored=_errors_by_code(failures)), {}),
        error_rows(context, failures, now),
        schemas.SCORES.empty_table(),
        schemas.embeddings(context.compiled.dim).empty_table(),
    )


def error_rows(context: RowContext, failures: list[Failure], now: datetime) -> pa.Table:
    """The decision rows of objects that could not be scored: the policy's `unreadable` or `unsupported` decides."""
    count = len(failures)
    objects = [f.object for f in failures]
    values = {
        **_keys(context, objects),
        **_object_columns(objects),
        "error_code": pa.array([f.code.value for f in failures], pa.string()),
        "error_detail": pa.array([f.detail for f in failures], pa.string()),
        "sha256": pa.array([f.sha256 for f in failures], pa.string()),
        **error_columns(context.compiled.policy, [f.code for f in failures]),
        **identity_columns(context, count, now),
    }
    return pa.table({name: values[name] for name in schemas.DECISIONS.names}, schema=schemas.DECISIONS)


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


def _embedding_rows(
    context: RowContext, embedded: list[Embedded], frames: NDArray[np.int32], vectors: NDArray[np.float16]
) -> pa.Table:
    owners = [e for e in embedded for _ in e.frame_indexes]
    return pa.table(
        {
            **_keys(context, [e.object for e in owners]),
            "sha256": pa.array([e.sha256 for e in owners], pa.string()),
            "frame": pa.array(frames, pa.int32()),
            "embedding": embedding_column(vectors),
        },
        schema=schemas.embeddings(vectors.shape[1]),
    )


def _errors_by_code(failures: list[Failure]) -> dict[str, int]:
    return dict(sorted(Counter(f.code.value for f in failures).items()))

"""From embeddings to rows: scores, decisions and error rows as Arrow tables in the stored schemas."""

import itertools
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.errors import ErrorCode
from moderation.policy.decision import ACTIONS, decide
from moderation.policy.schema import Rule
from moderation.policy.scoring import CompiledPolicy
from moderation.records import BatchSummary, Counts, ObjectRef, ScoredBatch
from moderation.results import schemas


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


@dataclass(frozen=True, slots=True)
class RowContext:
    """What is the same in every row of a run."""

    run_id: str
    compiled: CompiledPolicy
    model: str
    fingerprint: str


def build_rows(
    context: RowContext,
    embedded: list[Embedded],
    vectors: NDArray[np.float16],
    failures: list[Failure],
    now: datetime,
) -> ScoredBatch:
    """The rows of a batch. `vectors` float16 [F, D] holds the frames of `embedded`, in order."""
    compiled = context.compiled
    rules = compiled.rules
    starts = np.cumsum([0, *(len(e.frame_indexes) for e in embedded)])
    by_frame = compiled.score(vectors)
    best = _best_frames(by_frame.score, starts)
    columns = np.arange(len(rules))[None, :]
    score, similarity = by_frame.score[best, columns], by_frame.similarity[best, columns]
    frame_numbers = np.array([i for e in embedded for i in e.frame_indexes], np.int32)
    frame = frame_numbers[best]
    decided = decide(score, rules, compiled.policy.near)

    count = len(embedded)
    keys = _keys(context, [e.object for e in embedded])
    top = decided.top_rule
    has_top = bool(count) and top[0] >= 0
    scored = pa.table(
        {
            **keys,
            **_object_columns([e.object for e in embedded]),
            "status": pa.array(["scored"] * count),
            "error_code": pa.nulls(count, pa.string()),
            "error_detail": pa.nulls(count, pa.string()),
            "retryable": pa.array([False] * count),
            "format": pa.array([e.format for e in embedded], pa.string()),
            "width": pa.array([e.width for e in embedded], pa.int32()),
            "height": pa.array([e.height for e in embedded], pa.int32()),
            "frames": pa.array([e.frames for e in embedded], pa.int32()),
            "frame": pa.array(frame[np.arange(count), top], pa.int32()) if has_top else pa.nulls(count, pa.int32()),
            "sha256": pa.array([e.sha256 for e in embedded], pa.string()),
            "pdq": pa.array([e.pdq for e in embedded], pa.string()),
            "pdq_quality": pa.array([e.pdq_quality for e in embedded], pa.int32()),
            "action": _labels([a.value for a in ACTIONS], decided.action),
            "flagged": pa.array(decided.flagged.any(axis=1)),
            "flags": _lists(decided.flagged, rules),
            "shadow_flags": _lists(decided.shadow, rules),
            "top_rule": _labels([r.id for r in rules], top) if has_top else pa.nulls(count, pa.string()),
            "top_category": _labels([r.category for r in rules], top) if has_top else pa.nulls(count, pa.string()),
            "top_score": pa.array(score[np.arange(count), top]) if has_top else pa.nulls(count, pa.float32()),
            "top_threshold": pa.array(decided.top_threshold) if has_top else pa.nulls(count, pa.float32()),
            "near_threshold": pa.array(decided.near),
            **_identity_columns(context, count, now),
        },
        schema=schemas.DECISIONS,
    )
    decisions = pa.concat_tables([scored, error_rows(context, failures, now)])
    embeddings = _embedding_rows(context, embedded, frame_numbers, vectors)
    scores = _score_rows(context, keys, score, similarity, by_frame.top_prompt[best, columns], decided.rule_action, frame)
    counts = Counts(
        scored=count,
        blocked=int((decided.action == 2).sum()),
        review=int((decided.action == 1).sum()),
        near_threshold=int(decided.near.sum()),
        errored=_errors_by_code(failures),
        flagged=_by_rule(decided.flagged, rules),
        shadow=_by_rule(decided.shadow, rules),
    )
    return ScoredBatch(BatchSummary(counts, {}), decisions, scores, embeddings)


def failed_batch(context: RowContext, failures: list[Failure], now: datetime) -> ScoredBatch:
    """A batch in which nothing could be scored."""
    return ScoredBatch(
        BatchSummary(Counts(errored=_errors_by_code(failures)), {}),
        error_rows(context, failures, now),
        schemas.SCORES.empty_table(),
        schemas.embeddings(context.compiled.weights.shape[1]).empty_table(),
    )


def error_rows(context: RowContext, failures: list[Failure], now: datetime) -> pa.Table:
    """The decision rows of objects that could not be scored: the policy's `unreadable` decides."""
    count = len(failures)
    objects = [f.object for f in failures]
    empty_lists = pa.array([[] for _ in failures], pa.list_(pa.field("element", pa.string(), nullable=False)))
    values = {
        **_keys(context, objects),
        **_object_columns(objects),
        "status": pa.array(["error"] * count, pa.string()),
        "error_code": pa.array([f.code.value for f in failures], pa.string()),
        "error_detail": pa.array([f.detail for f in failures], pa.string()),
        "retryable": pa.array([f.code.retryable for f in failures], pa.bool_()),
        "sha256": pa.array([f.sha256 for f in failures], pa.string()),
        "action": pa.array([context.compiled.policy.unreadable.value] * count, pa.string()),
        "flagged": pa.array([False] * count, pa.bool_()),
        "flags": empty_lists,
        "shadow_flags": empty_lists,
        "near_threshold": pa.array([False] * count, pa.bool_()),
        **_identity_columns(context, count, now),
    }
    return pa.table(
        {f.name: values[f.name] if f.name in values else pa.nulls(count, f.type) for f in schemas.DECISIONS},
        schema=schemas.DECISIONS,
    )


def _best_frames(score: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of the highest score of each image under each rule, the earliest among equals: [N, R]."""
    if len(starts) - 1 == len(score):  # one frame each, the common case
        return np.repeat(np.arange(len(score))[:, None], score.shape[1], axis=1)
    spans = itertools.pairwise(starts)
    return np.array([a + score[a:b].argmax(axis=0) for a, b in spans], np.int64).reshape(-1, score.shape[1])


def _keys(context: RowContext, objects: list[ObjectRef]) -> dict[str, pa.Array]:
    return {
        "run_id": _same(context.run_id, len(objects)),
        "uri": pa.array([o.uri for o in objects], pa.string()),
        "etag": pa.array([o.etag for o in objects], pa.string()),
    }


def _object_columns(objects: list[ObjectRef]) -> dict[str, pa.Array]:
    return {
        "size_bytes": pa.array([o.size for o in objects], pa.int64()),
        "last_modified": pa.array([o.last_modified for o in objects], pa.timestamp("us", tz="UTC")),
    }


def _identity_columns(context: RowContext, count: int, now: datetime) -> dict[str, pa.Array]:
    policy = context.compiled.policy
    return {
        "policy": _same(policy.policy, count),
        "policy_version": _same(policy.version, count),
        "policy_hash": _same(policy.hash, count),
        "model": _same(context.model, count),
        "model_fingerprint": _same(context.fingerprint, count),
        "scored_at": pa.array([now] * count, pa.timestamp("us", tz="UTC")),
    }


def _score_rows(
    context: RowContext,
    keys: dict[str, pa.Array],
    score: NDArray[np.float32],
    similarity: NDArray[np.float32],
    top_prompt: NDArray[np.int64],
    action: NDArray[np.int8],
    frame: NDArray[np.int32],
) -> pa.Table:
    """One row per image and rule, images outermost."""
    rules = context.compiled.rules
    count, width = score.shape
    image = pa.array(np.repeat(np.arange(count), width))
    rule = np.tile(np.arange(width), count)
    prompts = [p for r in rules for p in r.prompts]
    offsets = np.cumsum([0, *(len(r.prompts) for r in rules)])[:-1]
    return pa.table(
        {
            **{name: column.take(image) for name, column in keys.items()},
            "rule": _labels([r.id for r in rules], rule),
            "category": _labels([r.category for r in rules], rule),
            "severity": _labels([r.severity.value for r in rules], rule),
            "mode": _labels([r.mode.value for r in rules], rule),
            "score": pa.array(score.ravel()),
            "similarity": pa.array(similarity.ravel()),
            "top_prompt": _labels(prompts, (top_prompt + offsets[None, :]).ravel()),
            "review": pa.array([r.review for r in rules], pa.float32()).take(pa.array(rule)),
            "block": pa.array([r.block for r in rules], pa.float32()).take(pa.array(rule)),
            "action": _labels([a.value for a in ACTIONS], action.ravel()),
            "frame": pa.array(frame.ravel(), pa.int32()),
        },
        schema=schemas.SCORES,
    )


def _embedding_rows(
    context: RowContext, embedded: list[Embedded], frames: NDArray[np.int32], vectors: NDArray[np.float16]
) -> pa.Table:
    schema = schemas.embeddings(vectors.shape[1])
    owners = [e for e in embedded for _ in e.frame_indexes]
    flat = pa.array(np.ascontiguousarray(vectors).ravel(), pa.float16())
    return pa.table(
        {
            **_keys(context, [e.object for e in owners]),
            "sha256": pa.array([e.sha256 for e in owners], pa.string()),
            "frame": pa.array(frames, pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, type=schema.field("embedding").type),
        },
        schema=schema,
    )


def _same(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), count)


def _labels(names: list[str], index: NDArray[np.integer]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(index))


def _lists(flags: NDArray[np.bool_], rules: tuple[Rule, ...]) -> pa.Array:
    """Boolean [N, R] as lists of rule ids."""
    _, columns = flags.nonzero()
    offsets = np.concatenate([[0], flags.sum(axis=1).cumsum()]).astype(np.int32)
    kind = pa.list_(pa.field("element", pa.string(), nullable=False))
    return pa.ListArray.from_arrays(pa.array(offsets), _labels([r.id for r in rules], columns), type=kind)


def _by_rule(flags: NDArray[np.bool_], rules: tuple[Rule, ...]) -> dict[str, int]:
    return {rule.id: int(n) for rule, n in zip(rules, flags.sum(axis=0), strict=True) if n}


def _errors_by_code(failures: list[Failure]) -> dict[str, int]:
    return dict(sorted(Counter(f.code.value for f in failures).items()))

"""From the embeddings of images to decisions, and their rows in the tables.

The same for images that were just embedded and for those whose embeddings are read back: equal embeddings give equal rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.errors import ErrorCode
from moderation.model.engines import Engine
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.decision import ACTIONS, Decisions, Thresholds, decide
from moderation.policy.schema import Policy, Rule
from moderation.records import Counts
from moderation.results import schemas

RETRYABLE: Mapping[str | None, bool] = {code.value: code.retryable for code in ErrorCode}
"""Error codes, and whether another try may succeed."""


@dataclass(frozen=True, slots=True)
class RowContext:
    """What is the same in every row of a run."""

    run_id: str
    compiled: CompiledPolicy
    model: str
    fingerprint: str
    engine: Engine | None = None
    """how the model runs in every actor, as the first one says; None: as each has it"""


@dataclass(frozen=True, slots=True)
class Judged:
    """N images under R rules; of several frames, each rule takes the one with its highest score."""

    rules: tuple[Rule, ...]
    evidence: tuple[tuple[str, ...], ...]
    """of each rule, what `top_prompt` counts"""
    thresholds: Thresholds
    score: NDArray[np.float32]
    """[N, R]"""
    similarity: NDArray[np.float32]
    """[N, R] highest cosine among the rule's prompts in that frame"""
    top_prompt: NDArray[np.int64]
    """[N, R] that prompt's index in `evidence`"""
    frame: NDArray[np.int32]
    """[N, R] number of that frame, counted from 0"""
    decided: Decisions

    def counts(self) -> Counts:
        """The sums that a run keeps of these images."""
        decided = self.decided
        return Counts(
            scored=len(self.score),
            blocked=int((decided.action == 2).sum()),
            review=int((decided.action == 1).sum()),
            near_threshold=int(decided.near.sum()),
            flagged=_by_rule(decided.flagged, self.rules),
            shadow=_by_rule(decided.shadow, self.rules),
        )


def judge(
    compiled: CompiledPolicy, vectors: NDArray[np.float16], starts: NDArray[np.int64], frames: NDArray[np.int32]
) -> Judged:
    """Score and decide N images.

    Args:
        compiled: the policy.
        vectors: float16 [F, D] unit embeddings of all their frames.
        starts: int64 [N + 1]; image i has the rows starts[i] to starts[i + 1].
        frames: int32 [F] numbers of the frames in their images.
    """
    by_frame = compiled.score(vectors)
    best = best_frames(by_frame.score, starts[:-1], starts[1:])
    columns = np.arange(len(compiled.rules))[None, :]
    score = by_frame.score[best, columns]
    return Judged(
        rules=compiled.rules,
        evidence=compiled.evidence,
        thresholds=compiled.thresholds,
        score=score,
        similarity=by_frame.similarity[best, columns],
        top_prompt=by_frame.top_prompt[best, columns],
        frame=frames[best],
        decided=decide(score, compiled.thresholds),
    )


def best_frames(score: NDArray[np.floating], first: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of the highest score of each image under each rule, the earliest among equals: [N, R].

    Args:
        score: [F, R] of frames.
        first: [N] the first row of each image.
        end: [N] the row behind its last one.
    """
    best = np.repeat(first[:, None], score.shape[1], axis=1)
    for image in np.flatnonzero(end - first > 1):
        best[image] += score[first[image] : end[image]].argmax(axis=0)
    return best


def judged_columns(judged: Judged) -> dict[str, pa.Array]:
    """The columns of `decisions` that follow from scores."""
    rules, decided = judged.rules, judged.decided
    count, top = len(judged.score), decided.top_rule
    has_top = bool(count) and top[0] >= 0
    rows = np.arange(count)
    return {
        "frame": pa.array(judged.frame[rows, top], pa.int32()) if has_top else pa.nulls(count, pa.int32()),
        "action": _labels([a.value for a in ACTIONS], decided.action),
        "flagged": pa.array(decided.flagged.any(axis=1)),
        "flags": _lists(decided.flagged, rules),
        "shadow_flags": _lists(decided.shadow, rules),
        "top_rule": _labels([r.id for r in rules], top) if has_top else pa.nulls(count, pa.string()),
        "top_category": _labels([r.category for r in rules], top) if has_top else pa.nulls(count, pa.string()),
        "top_score": pa.array(judged.score[rows, top]) if has_top else pa.nulls(count, pa.float32()),
        "top_threshold": pa.array(decided.top_threshold) if has_top else pa.nulls(count, pa.float32()),
        "near_threshold": pa.array(decided.near),
    }


def error_columns(policy: Policy, codes: Sequence[str | None]) -> dict[str, pa.Array]:
    """The columns of `decisions` that follow from why objects could not be scored: what such rows do not know is null.

    Code, detail and SHA-256 are not among them.
    """
    count = len(codes)
    no = pa.repeat(pa.scalar(value=False), count)
    nothing = pa.array([[]] * count, schemas.DECISIONS.field("flags").type)
    said = {
        "status": same("error", count),
        "retryable": pa.array([RETRYABLE.get(code, False) for code in codes], pa.bool_()),
        "action": pa.array([policy.action_on_error(code).value for code in codes], pa.string()),
        "flagged": no,
        "flags": nothing,
        "shadow_flags": nothing,
        "near_threshold": no,
    }
    own = (*said, "error_code", "error_detail", "sha256")
    unknown = [name for name in schemas.columns("image", "decision") if name not in own]
    return {**said, **{name: pa.nulls(count, schemas.DECISIONS.field(name).type) for name in unknown}}


def identity_columns(context: RowContext, count: int, now: datetime) -> dict[str, pa.Array]:
    """The columns of `decisions` that say by what and when it was decided."""
    policy = context.compiled.policy
    return {
        "policy": same(policy.policy, count),
        "policy_version": same(policy.version, count),
        "policy_hash": same(policy.hash, count),
        "model": same(context.model, count),
        "model_fingerprint": same(context.fingerprint, count),
        "scored_at": pa.array([now] * count, pa.timestamp("us", tz="UTC")),
    }


def score_rows(keys: Mapping[str, pa.Array], judged: Judged) -> pa.Table:
    """The rows of `scores`: one per image and rule, images outermost. `keys` are the images' run id, URI and ETag."""
    rules = judged.rules
    count, width = judged.score.shape
    image = pa.array(np.repeat(np.arange(count), width))
    rule = np.tile(np.arange(width), count)
    prompts = [one for of_rule in judged.evidence for one in of_rule]
    offsets = np.cumsum([0, *(len(of_rule) for of_rule in judged.evidence)])[:-1]
    return pa.table(
        {
            **{name: column.take(image) for name, column in keys.items()},
            "rule": _labels([r.id for r in rules], rule),
            "category": _labels([r.category for r in rules], rule),
            "severity": _labels([r.severity.value for r in rules], rule),
            "mode": _labels([r.mode.value for r in rules], rule),
            "score": pa.array(judged.score.ravel()),
            "similarity": pa.array(judged.similarity.ravel()),
            "top_prompt": _labels(prompts, (judged.top_prompt + offsets[None, :]).ravel()),
            "review": _set(judged.thresholds.review).take(pa.array(rule)),
            "block": _set(judged.thresholds.block).take(pa.array(rule)),
            "action": _labels([a.value for a in ACTIONS], judged.decided.rule_action.ravel()),
            "frame": pa.array(judged.frame.ravel(), pa.int32()),
        },
        schema=schemas.SCORES,
    )


def embedding_column(vectors: NDArray[np.float16]) -> pa.Array:
    """Embeddings [F, D] as the column of their table."""
    kind = schemas.embeddings(vectors.shape[1]).field("embedding").type
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel(), pa.float16()), type=kind)


def same(text: str, count: int) -> pa.Array:
    """One text, `count` times."""
    return pa.repeat(pa.scalar(text, pa.string()), count)


def _set(thresholds: NDArray[np.float32]) -> pa.Array:
    """Thresholds; null where a rule has none."""
    return pa.array(thresholds, mask=np.isinf(thresholds))


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

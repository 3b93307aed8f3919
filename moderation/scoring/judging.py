"""From the embeddings of images to decisions, and their rows in the tables.

The same for images that were just embedded and for those whose embeddings are read back: equal embeddings give equal rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.lists.lookup import ImageHashes
from moderation.model.engines import Engine
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.deciding import Decided, decide_images
from moderation.policy.decision import ACTIONS, Thresholds
from moderation.policy.schema import ListedImages, Rule
from moderation.records import Counts
from moderation.results import schemas
from moderation.scoring.columns import counts_by_name, labels, name_lists, same
from moderation.scoring.list_columns import deciding_frames, match_column, matched_counts, overridden_column


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
    decided: Decided
    without_md5: int = 0
    """images whose MD5 a list needs and nobody knows"""

    @property
    def lists(self) -> tuple[ListedImages, ...]:
        """The policy's lists."""
        return () if self.decided.listed is None else self.decided.listed.lists

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the rules, then of the lists."""
        return (*(rule.id for rule in self.rules), *(one.id for one in self.lists))

    def counts(self) -> Counts:
        """The sums that a run keeps of these images."""
        decided, names = self.decided, self.names
        return Counts(
            scored=len(self.score),
            blocked=int((decided.action == 2).sum()),
            review=int((decided.action == 1).sum()),
            near_threshold=int(decided.rules.near.sum()),
            flagged=counts_by_name(decided.acting, names),
            shadow=counts_by_name(decided.would_act, names),
            matched=matched_counts(decided.listed),
            without_md5=self.without_md5,
        )


def judge(compiled: CompiledPolicy, vectors: NDArray[np.float16], images: ImageHashes) -> Judged:
    """Score and decide N images.

    Args:
        compiled: the policy.
        vectors: float16 [F, D] unit embeddings of all their frames.
        images: their hashes, and which frames are whose.
    """
    starts, frames = images.starts, images.frames
    by_frame = compiled.score(vectors)
    best = best_frames(by_frame.score, starts[:-1], starts[1:])
    columns = np.arange(len(compiled.rules))[None, :]
    score = by_frame.score[best, columns]
    known = compiled.known_images
    return Judged(
        rules=compiled.rules,
        evidence=compiled.evidence,
        thresholds=compiled.thresholds,
        score=score,
        similarity=by_frame.similarity[best, columns],
        top_prompt=by_frame.top_prompt[best, columns],
        frame=frames[best],
        decided=decide_images(compiled, score, known.match(images) if known else None),
        without_md5=images.md5.null_count if known.need_md5 else 0,
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
    rules, lists, decided, names = judged.rules, judged.lists, judged.decided, judged.names
    count, top_rule = len(judged.score), decided.rules.top_rule
    rows, no_rule = np.arange(count), decided.by_list | (top_rule < 0)
    return {
        "frame": _frames(judged, judged.frame[rows, top_rule], no_rule),
        "action": labels([a.value for a in ACTIONS], decided.action),
        "flagged": pa.array(decided.acting.any(axis=1)),
        "flags": name_lists(decided.acting, names),
        "shadow_flags": name_lists(decided.would_act, names),
        "overridden": overridden_column(decided.listed, names, count),
        "list_matches": match_column(decided.listed, count),
        "top_rule": labels(names, decided.top),
        "top_category": labels([*(rule.category for rule in rules), *(one.category for one in lists)], decided.top),
        "top_score": pa.array(judged.score[rows, top_rule], mask=no_rule),
        "top_threshold": pa.array(decided.rules.top_threshold, mask=no_rule),
        "near_threshold": pa.array(decided.rules.near),
    }


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
            "rule": labels([r.id for r in rules], rule),
            "category": labels([r.category for r in rules], rule),
            "severity": labels([r.severity.value for r in rules], rule),
            "mode": labels([r.mode.value for r in rules], rule),
            "score": pa.array(judged.score.ravel()),
            "similarity": pa.array(judged.similarity.ravel()),
            "top_prompt": labels(prompts, (judged.top_prompt + offsets[None, :]).ravel()),
            "review": _set(judged.thresholds.review).take(pa.array(rule)),
            "block": _set(judged.thresholds.block).take(pa.array(rule)),
            "action": labels([a.value for a in ACTIONS], judged.decided.rules.rule_action.ravel()),
            "frame": pa.array(judged.frame.ravel(), pa.int32()),
        },
        schema=schemas.SCORES,
    )


def _frames(judged: Judged, of_rules: NDArray[np.int32], no_rule: NDArray[np.bool_]) -> pa.Array:
    """The frame that decided; null where no rule did, and no frame."""
    if judged.decided.listed is not None:
        of_rules = of_rules.copy()
        no_rule = no_rule.copy()
        for image, frame in deciding_frames(judged.decided.listed).items():
            if frame is not None:
                of_rules[image], no_rule[image] = frame, False
    return pa.array(of_rules, pa.int32(), mask=no_rule)


def _set(thresholds: NDArray[np.float32]) -> pa.Array:
    """Thresholds; null where a rule has none."""
    return pa.array(thresholds, mask=np.isinf(thresholds))

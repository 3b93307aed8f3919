"""From the embeddings of images to decisions, and their rows in the tables.

The same for images that were just embedded and for those whose embeddings are read back: equal embeddings give equal rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.lists.lookup import ImageHashes
from moderation.model.engines import Engine
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.decision import ACTIONS, Decisions, Thresholds, decide
from moderation.policy.known_images import Listed
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
    decided: Decisions
    """as rules and lists decided together; of an image that a list decided about, `top_rule` is the rule's that it overruled"""
    listed: Listed | None = None
    """None under a policy without lists"""

    @property
    def lists(self) -> tuple[ListedImages, ...]:
        """The policy's lists."""
        return () if self.listed is None else self.listed.lists

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of R rules, then of L lists."""
        return (*(rule.id for rule in self.rules), *(one.id for one in self.lists))

    @property
    def acting(self) -> NDArray[np.bool_]:
        """[N, R + L] live rules, then live lists, that act."""
        rules = self.decided.flagged
        return rules if self.listed is None else np.hstack([rules, self.listed.outcome.acting])

    @property
    def would_act(self) -> NDArray[np.bool_]:
        """[N, R + L] shadow rules, then shadow lists, that would act."""
        rules = self.decided.shadow
        return rules if self.listed is None else np.hstack([rules, self.listed.outcome.shadow])

    def counts(self) -> Counts:
        """The sums that a run keeps of these images."""
        decided, names = self.decided, self.names
        return Counts(
            scored=len(self.score),
            blocked=int((decided.action == 2).sum()),
            review=int((decided.action == 1).sum()),
            near_threshold=int(decided.near.sum()),
            flagged=counts_by_name(self.acting, names),
            shadow=counts_by_name(self.would_act, names),
            matched=matched_counts(self.listed),
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
    decided, listed = decide_images(compiled, score, images)
    return Judged(
        rules=compiled.rules,
        evidence=compiled.evidence,
        thresholds=compiled.thresholds,
        score=score,
        similarity=by_frame.similarity[best, columns],
        top_prompt=by_frame.top_prompt[best, columns],
        frame=frames[best],
        decided=decided,
        listed=listed,
    )


def decide_images(compiled: CompiledPolicy, score: NDArray[np.float32], images: ImageHashes) -> tuple[Decisions, Listed | None]:
    """What rules and hash lists decide together about N images with the scores [N, R]."""
    decided = decide(score, compiled.thresholds)
    if not compiled.known_images:
        return decided, None
    asked = np.where(compiled.thresholds.live, decided.rule_action, 0).astype(np.int8)
    listed = compiled.known_images.judge(images, asked, compiled.thresholds.severity)
    overridden = listed.outcome.overridden
    rows = np.flatnonzero(overridden.any(axis=1))
    if len(rows):
        left = decide(score[rows], compiled.thresholds, overridden[rows])
        top_rule, top_threshold = decided.top_rule.copy(), decided.top_threshold.copy()
        top_rule[rows], top_threshold[rows] = left.top_rule, left.top_threshold
        decided = replace(decided, flagged=decided.flagged & ~overridden, top_rule=top_rule, top_threshold=top_threshold)
    return replace(decided, action=listed.outcome.action), listed


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
    rules, lists, decided = judged.rules, judged.lists, judged.decided
    count, top = len(judged.score), decided.top_rule
    names, rows = judged.names, np.arange(count)
    frame, score = judged.frame[rows, top], judged.score[rows, top]
    by_rule, threshold = top >= 0, decided.top_threshold
    if judged.listed is not None:
        by_list = judged.listed.outcome.by_list
        by_rule = by_rule & (by_list < 0)
        top = np.where(by_list >= 0, len(rules) + by_list, top)
    no_rule = ~by_rule
    return {
        "frame": _frames(judged, frame, no_rule),
        "action": labels([a.value for a in ACTIONS], decided.action),
        "flagged": pa.array(judged.acting.any(axis=1)),
        "flags": name_lists(judged.acting, names),
        "shadow_flags": name_lists(judged.would_act, names),
        "overridden": overridden_column(judged.listed, names, count),
        "list_matches": match_column(judged.listed, count),
        "top_rule": labels(names, top),
        "top_category": labels([*(rule.category for rule in rules), *(one.category for one in lists)], top),
        "top_score": pa.array(score, mask=no_rule),
        "top_threshold": pa.array(threshold, mask=no_rule),
        "near_threshold": pa.array(decided.near),
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
            "action": labels([a.value for a in ACTIONS], judged.decided.rule_action.ravel()),
            "frame": pa.array(judged.frame.ravel(), pa.int32()),
        },
        schema=schemas.SCORES,
    )


def _frames(judged: Judged, of_rules: NDArray[np.int32], no_rule: NDArray[np.bool_]) -> pa.Array:
    """The frame that decided; null where no rule did, and no frame."""
    if judged.listed is not None:
        of_rules = of_rules.copy()
        no_rule = no_rule.copy()
        for image, frame in deciding_frames(judged.listed).items():
            if frame is not None:
                of_rules[image], no_rule[image] = frame, False
    return pa.array(of_rules, pa.int32(), mask=no_rule)


def _set(thresholds: NDArray[np.float32]) -> pa.Array:
    """Thresholds; null where a rule has none."""
    return pa.array(thresholds, mask=np.isinf(thresholds))

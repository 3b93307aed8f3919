"""One policy's decisions on the scored images of a shard: one side of the comparison. Pure.

Most images are allowed, before as after. Nothing is built for these but their zero in `action`.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.policy.compiled import CompiledPolicy
from moderation.policy.decision import ACTIONS, Decisions, decide
from moderation.results.stored_images import StoredImages
from moderation.scoring.judging import best_frames

_ACTION_NAMES = pa.array([action.value for action in ACTIONS], pa.string())
_FLAGS = pa.list_(pa.field("element", pa.string(), nullable=False))


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is decided about N images, and which of the named rules flag them."""

    action: NDArray[np.int8]
    """[N] index into `ACTIONS`"""
    names: tuple[str, ...]
    """ids of rules"""
    flag_image: NDArray[np.int64]
    """[K] the image of each flag, ascending"""
    flag_rule: NDArray[np.int64]
    """[K] its rule, index into `names`"""


class Scorer:
    """Scores and decides the images of a shard under a policy."""

    def __init__(self, compiled: CompiledPolicy) -> None:
        self.compiled = compiled
        self.rules = compiled.rules
        self.names = tuple(rule.id for rule in self.rules)
        self.thresholds = compiled.thresholds
        self._lowest = np.where(self.thresholds.live, self.thresholds.lowest, np.float32(np.inf))

    def decide(self, scores: NDArray[np.float32]) -> Decisions:
        """All there is to say about images with the scores [N, R]."""
        return decide(scores, self.thresholds)

    def verdicts(self, scores: NDArray[np.float32]) -> Verdicts:
        """The same actions and flags alone, for a part of the time: only images that a live rule flags are looked at."""
        flagged = np.flatnonzero((scores >= self._lowest).any(axis=1))
        found = self.decide(scores[flagged])
        action = np.zeros(len(scores), np.int8)
        action[flagged] = found.action
        image, rule = found.flagged.nonzero()
        return Verdicts(action, self.names, flagged[image], rule)

    def would(self, scores: NDArray[np.float32]) -> dict[int, NDArray[np.int64]]:
        """The images, of N with the scores [N, R], that each shadow rule would flag were it live, by the rule's index."""
        shadow = np.flatnonzero(~self.thresholds.live).tolist()
        return {at: np.flatnonzero(scores[:, at] >= self.thresholds.lowest[at]) for at in shadow}

    def same_scores(self, other: "Scorer") -> bool:
        """Whether both policies give every image the same scores, in the same columns: only thresholds or modes differ."""
        ours, theirs = self.compiled, other.compiled
        return (
            ours.logit_scale == theirs.logit_scale
            and ours.logit_bias == theirs.logit_bias
            and np.array_equal(ours.weights, theirs.weights)
            and ours.policy.assets.digests == theirs.policy.assets.digests
            and [(r.id, r.score, r.prompts, r.contrast) for r in self.rules]
            == [(r.id, r.score, r.prompts, r.contrast) for r in other.rules]
            and ours.policy.contrast == theirs.policy.contrast
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """The scored images of a shard, N of F frames, under the R rules of a policy."""

    scorer: Scorer
    images: StoredImages
    by_frame: NDArray[np.float32]
    """scores [F, R]"""
    scores: NDArray[np.float32]
    """[N, R] each image's highest over its frames"""

    @classmethod
    def of(cls, scorer: Scorer, images: StoredImages) -> "Scored":
        """Score the images; there must be at least one."""
        by_frame = scorer.compiled.scores(images.vectors)
        if len(images.scored) == len(by_frame):  # one frame each, the common case
            return cls(scorer, images, by_frame, by_frame)
        return cls(scorer, images, by_frame, np.maximum.reduceat(by_frame, images.starts[:-1], axis=0))

    def frames(self, image: NDArray[np.int64], rule: NDArray[np.int64]) -> NDArray[np.int32]:
        """The numbers [K] of the frames that gave images [K] their scores under rules [K], the earliest among equals."""
        starts = self.images.starts
        best = best_frames(self.by_frame, starts[image], starts[image + 1])
        found: NDArray[np.int32] = self.images.frames[best[np.arange(len(image)), rule]]
        return found


def actions(table: pa.Table) -> NDArray[np.int8]:
    """The actions of decision rows [N], as indexes into `ACTIONS`."""
    found: NDArray[np.int8] = pc.index_in(table["action"], _ACTION_NAMES).to_numpy().astype(np.int8)
    return found


def published(table: pa.Table) -> Verdicts:
    """What decision rows [N] say themselves."""
    flags = table["flags"].combine_chunks()
    rule = pc.list_flatten(flags).dictionary_encode()
    image = pc.list_parent_indices(flags).to_numpy().astype(np.int64)
    return Verdicts(actions(table), tuple(rule.dictionary.to_pylist()), image, rule.indices.to_numpy().astype(np.int64))


def flag_lists(flagged: NDArray[np.bool_], names: tuple[str, ...]) -> pa.Array:
    """Boolean [N, R] as lists of rule ids."""
    _, rule = flagged.nonzero()
    offsets = np.concatenate([[0], flagged.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), labels(names, rule), type=_FLAGS)


def labels(names: tuple[str, ...], index: NDArray[np.integer]) -> pa.Array:
    """Names by index; null where that is negative."""
    return pa.array(names, pa.string()).take(pa.array(index, mask=index < 0))


def action_labels(action: NDArray[np.int8]) -> pa.Array:
    """Actions in words."""
    return _ACTION_NAMES.take(pa.array(action))

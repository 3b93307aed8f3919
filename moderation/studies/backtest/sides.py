"""One policy's decisions on the scored images of a shard: one side of the comparison. Pure.

Most images are allowed, before as after. Nothing is built for these but their zero in `action`.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.lists.lookup import ImageHashes, Matches
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.deciding import Decided, decide_images
from moderation.policy.decision import ACTIONS
from moderation.policy.known_images import restricted
from moderation.policy.schema import Action, Mode
from moderation.results.stored_images import StoredImages
from moderation.scoring.judging import best_frames
from moderation.scoring.unscored import Unscored, judge_unscored

_ACTION_NAMES = pa.array([action.value for action in ACTIONS], pa.string())
_FLAGS = pa.list_(pa.field("element", pa.string(), nullable=False))


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is decided about N images, and which of the named rules and lists flag them."""

    action: NDArray[np.int8]
    """[N] index into `ACTIONS`"""
    names: tuple[str, ...]
    """ids of rules, and of hash lists"""
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
        self.lists = compiled.known_images.lists
        self.all_names = (*self.names, *(one.id for one in self.lists))
        """of rules, then of hash lists"""
        self.thresholds = compiled.thresholds
        self.lowest = np.where(self.thresholds.live, self.thresholds.lowest, np.float32(np.inf))
        """[R] from where on a live rule flags"""

    def match(self, images: StoredImages) -> Matches | None:
        """The hash lists that the scored images are on; None under a policy without lists."""
        known = self.compiled.known_images
        return known.match(images.image_hashes) if known else None

    def unscored(self, errors: pa.Table) -> Unscored:
        """The decisions on images without scores, of their decision rows."""
        hashes = ImageHashes.of_bytes(errors["sha256"], errors["md5"]) if self.lists else None
        return judge_unscored(self.compiled, errors["error_code"].to_pylist(), hashes)

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
    matches: Matches | None
    """with the policy's hash lists; None if it has none"""

    @classmethod
    def of(cls, scorer: Scorer, images: StoredImages) -> "Scored":
        """Score the images; there must be at least one."""
        by_frame, matches = scorer.compiled.scores(images.vectors), scorer.match(images)
        if len(images.scored) == len(by_frame):  # one frame each, the common case
            return cls(scorer, images, by_frame, by_frame, matches)
        return cls(scorer, images, by_frame, np.maximum.reduceat(by_frame, images.starts[:-1], axis=0), matches)

    def under(self, scorer: Scorer) -> "Scored":
        """The same scores under another policy, whose lists may be others."""
        same = scorer.compiled.known_images.lookup.same_as(self.scorer.compiled.known_images.lookup)
        return replace(self, scorer=scorer, matches=self.matches if same else scorer.match(self.images))

    def decide(self, image: NDArray[np.int64]) -> Decided:
        """All there is to say about some images [K], ascending."""
        matches = None if self.matches is None else self.matches.take(image)
        return decide_images(self.scorer.compiled, self.scores[image], matches)

    def verdicts(self) -> Verdicts:
        """Actions and flags alone, for a part of the time: only images that a live rule flags or a list names are looked at."""
        looked_at = np.any(self.scores >= self.scorer.lowest, axis=1)
        if self.matches is not None:
            looked_at[self.matches.image] = True
        images = np.flatnonzero(looked_at)
        found = self.decide(images)
        action = np.zeros(len(self.scores), np.int8)
        action[images] = found.action
        image, flag = found.acting.nonzero()
        return Verdicts(action, self.scorer.all_names, images[image], flag)

    @property
    def restricted(self) -> NDArray[np.bool_]:
        """[N] of which images nothing may be shown, by the policy's lists."""
        if self.matches is None:
            return np.zeros(len(self.scores), np.bool_)
        return restricted(self.scorer.lists, self.matches, len(self.scores))

    def would_match(self) -> dict[str, int]:
        """How many images each shadow list that asks for review or block would flag, by its id."""
        if self.matches is None:
            return {}
        counts = np.bincount(self.matches.list, minlength=len(self.scorer.lists)).tolist()
        shadow = (one.mode is Mode.SHADOW and one.action is not Action.ALLOW for one in self.scorer.lists)
        return {one.id: count for one, count, flags in zip(self.scorer.lists, counts, shadow, strict=True) if flags}

    def frames(self, image: NDArray[np.int64], rule: NDArray[np.int64]) -> NDArray[np.int32]:
        """The numbers [K] of the frames that gave images [K] their scores under rules [K], the earliest among equals."""
        starts = self.images.starts
        best = best_frames(self.by_frame, starts[image], starts[image + 1])
        found: NDArray[np.int32] = self.images.frames[best[np.arange(len(image)), rule]]
        return found


def unscored_verdicts(found: Unscored) -> Verdicts:
    """What is decided about images without scores; only hash lists flag them."""
    if found.listed is None:
        none = np.zeros(0, np.int64)
        return Verdicts(found.action, (), none, none)
    image, flag = found.listed.outcome.acting.nonzero()
    return Verdicts(found.action, tuple(one.id for one in found.listed.lists), image, flag)


def unscored_lists(found: Unscored) -> pa.Array:
    """The list [N] that decided about each image without scores; null where none did."""
    if found.listed is None:
        return pa.nulls(len(found.codes), pa.string())
    return labels(tuple(one.id for one in found.listed.lists), found.listed.outcome.by_list)


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


def verdict_flags(found: Verdicts) -> pa.Array:
    """The flags [N] as lists of ids."""
    flagged = np.zeros((len(found.action), len(found.names)), np.bool_)
    flagged[found.flag_image, found.flag_rule] = True
    return flag_lists(flagged, found.names)


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

"""Decisions about objects that could not be scored: the policy's `unreadable` or `unsupported`, and its hash lists."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.errors import ErrorCode
from moderation.lists.lookup import ImageHashes
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.decision import ACTIONS
from moderation.policy.known_images import Listed
from moderation.records import Counts
from moderation.results import schemas
from moderation.scoring.columns import counts_by_name, labels, name_lists, same
from moderation.scoring.list_columns import match_column, matched_counts

RETRYABLE: Mapping[str | None, bool] = {code.value: code.retryable for code in ErrorCode}
"""Error codes, and whether another try may succeed."""


@dataclass(frozen=True, slots=True)
class Unscored:
    """N images that could not be scored."""

    codes: Sequence[str | None]
    """[N] why"""
    own: NDArray[np.int8]
    """[N] the action that the policy has for them; index into `ACTIONS`"""
    listed: Listed | None

    @property
    def action(self) -> NDArray[np.int8]:
        """[N] what becomes of them; index into `ACTIONS`."""
        return self.own if self.listed is None else self.listed.outcome.action

    @property
    def restricted(self) -> NDArray[np.bool_]:
        """[N] of which nothing may be shown."""
        return np.zeros(len(self.own), np.bool_) if self.listed is None else self.listed.restricted

    def counts(self) -> Counts:
        """The sums that a run keeps of these images."""
        errored = dict(sorted(Counter(str(code) for code in self.codes).items()))
        if self.listed is None:
            return Counts(errored=errored)
        outcome, names = self.listed.outcome, [one.id for one in self.listed.lists]
        return Counts(
            errored=errored,
            flagged=counts_by_name(outcome.acting, names),
            shadow=counts_by_name(outcome.shadow, names),
            matched=matched_counts(self.listed),
            unscored_review=int((self.action == 1).sum()) - int((self.own == 1).sum()),
        )


def judge_unscored(compiled: CompiledPolicy, codes: Sequence[str | None], hashes: ImageHashes | None) -> Unscored:
    """Decide about N images without scores: the policy's `unreadable` or `unsupported`, and its hash lists.

    Args:
        compiled: the policy.
        codes: [N] why they have none.
        hashes: of their bytes, where these could be read; None will do under a policy without lists.
    """
    policy = compiled.policy
    own = np.array([ACTIONS.index(policy.action_on_error(code)) for code in codes], np.int8)
    known = compiled.known_images
    return Unscored(codes, own, None if hashes is None or not known else known.judge_unscored(hashes, own))


def unscored_columns(judged: Unscored) -> dict[str, pa.Array]:
    """The columns of `decisions` of objects that could not be scored: what such rows do not know is null.

    Code, detail and hashes are not among them.
    """
    count, listed = len(judged.codes), judged.listed
    lists = () if listed is None else listed.lists
    none = np.zeros((count, 0), np.bool_)
    acting, shadow = (none, none) if listed is None else (listed.outcome.acting, listed.outcome.shadow)
    by_list = np.full(count, -1) if listed is None else listed.outcome.by_list
    names = [one.id for one in lists]
    said = {
        "status": same("error", count),
        "retryable": pa.array([RETRYABLE.get(code, False) for code in judged.codes], pa.bool_()),
        "action": labels([a.value for a in ACTIONS], judged.action),
        "flagged": pa.array(acting.any(axis=1)),
        "flags": name_lists(acting, names),
        "shadow_flags": name_lists(shadow, names),
        "list_matches": match_column(listed, count),
        "top_rule": labels(names, by_list),
        "top_category": labels([one.category for one in lists], by_list),
        "near_threshold": pa.repeat(pa.scalar(value=False), count),
    }
    own = (*said, "error_code", "error_detail", "sha256", "md5")
    unknown = [name for name in schemas.columns("image", "decision") if name not in own]
    return {**said, **{name: pa.nulls(count, schemas.DECISIONS.field(name).type) for name in unknown}}

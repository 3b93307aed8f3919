"""What a policy decides about images: its rules by their scores, and its hash lists."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moderation.lists.lookup import Matches
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.decision import Decisions, decide
from moderation.policy.known_images import Listed


@dataclass(frozen=True)
class Decided:
    """N images under R rules and L lists. Where names are meant by number, rules come first, then lists."""

    rules: Decisions
    """what rules and lists decided together, of an image that a list decided about with the top rule that it overruled"""
    listed: Listed | None = None
    """None under a policy without lists"""

    @property
    def action(self) -> NDArray[np.int8]:
        """[N] index into `ACTIONS`."""
        return self.rules.action

    @property
    def acting(self) -> NDArray[np.bool_]:
        """[N, R + L] live rules and lists that act."""
        return self.rules.flagged if self.listed is None else np.hstack([self.rules.flagged, self.listed.outcome.acting])

    @property
    def would_act(self) -> NDArray[np.bool_]:
        """[N, R + L] shadow rules and lists that would act."""
        return self.rules.shadow if self.listed is None else np.hstack([self.rules.shadow, self.listed.outcome.shadow])

    @property
    def by_list(self) -> NDArray[np.bool_]:
        """[N] whether a list decided."""
        return np.zeros(len(self.action), np.bool_) if self.listed is None else self.listed.outcome.by_list >= 0

    @property
    def top(self) -> NDArray[np.int64]:
        """[N] the rule or list that decided; -1 where no rule is live and no list decided."""
        if self.listed is None:
            return self.rules.top_rule
        rules = self.rules.flagged.shape[1]
        return np.where(self.by_list, rules + self.listed.outcome.by_list, self.rules.top_rule)


def decide_images(compiled: CompiledPolicy, score: NDArray[np.float32], matches: Matches | None) -> Decided:
    """What rules and lists decide together.

    Args:
        compiled: the policy.
        score: [N, R] of its rules.
        matches: of the same images with its lists; None under a policy without lists.
    """
    decided = decide(score, compiled.thresholds)
    if matches is None:
        return Decided(decided)
    asked = np.where(compiled.thresholds.live, decided.rule_action, 0).astype(np.int8)
    listed = compiled.known_images.judge(matches, asked, compiled.thresholds.severity)
    overridden = listed.outcome.overridden
    rows = np.flatnonzero(overridden.any(axis=1))
    if len(rows):
        left = decide(score[rows], compiled.thresholds, overridden[rows])
        top_rule, top_threshold = decided.top_rule.copy(), decided.top_threshold.copy()
        top_rule[rows], top_threshold[rows] = left.top_rule, left.top_threshold
        decided = replace(decided, flagged=decided.flagged & ~overridden, top_rule=top_rule, top_threshold=top_threshold)
    return Decided(replace(decided, action=listed.outcome.action), listed)

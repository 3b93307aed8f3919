"""What a comparison of two models finds. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from moderation.policy.schema import Mode, Severity
from moderation.policy.score_kind import ScoreKind

Hold = Literal["flag-rate", "precision"]
"""What thresholds for the other model keep as it is: how many images they flag, or how many of these rightly."""
FEW = 20
"""Images that reach a threshold, below which where it lies for the other model is a guess."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models."""

    name: str
    fingerprint: str
    dim: int
    """numbers of an embedding"""
    image_size: int
    """pixels of the pictures that it takes"""
    seconds: float
    """for the images, the time to load the model left out"""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold of a rule, and the one that does the same under the other model."""

    kind: Literal["review", "block"]
    now: float
    """what the policy says"""
    reached_a: int
    """images whose score under A is at or above it"""
    reached_b: int
    """the same under B, with the policy's threshold"""
    fitted: float | None
    """what the threshold would be for B; None if these images do not say"""
    reached_fitted: int
    """images that reach that under B"""
    note: str = ""
    """why there is none, or a caution about it"""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An image that a rule decides differently under B."""

    uri: str
    etag: str
    frame: int
    """the frame with the highest score under A, counted from 0"""
    score_a: float
    score_b: float
    action_a: str
    action_b: str
    """with the policy's thresholds"""
    action_fitted: str
    """under B, with the thresholds for B"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two sets of actions on the same images."""

    share: float
    """of images with the same action"""
    kappa: float | None
    """Cohen's: agreement beyond what chance would give, at most 1; None where each side says one and the same thing only"""


@dataclass(frozen=True, slots=True)
class RuleComparison:
    """One rule under both models."""

    rule: str
    category: str
    severity: Severity
    mode: Mode
    kind: ScoreKind
    agreement: Agreement
    """with the policy's thresholds under both models"""
    agreement_fitted: Agreement
    """with the thresholds for B under B"""
    spearman: float | None
    """how alike both models order the images, -1 to 1; None where all scores of one are the same"""
    flagged_a: int
    """images for which the rule's action is review or block"""
    flagged_b: int
    flagged_fitted: int
    blocked_a: int
    blocked_b: int
    blocked_fitted: int
    both: int
    """images flagged by both, B with its own thresholds"""
    thresholds: tuple[Threshold, ...]
    disagreements: tuple[Disagreement, ...]
    """those that differ most come first"""
    summary: str
    """the result, in words"""

    @property
    def is_fitted(self) -> bool:
        """Whether every threshold has a counterpart for B."""
        return all(one.fitted is not None for one in self.thresholds)


Transitions = Mapping[tuple[str, str], int]
"""Images by their action under A and under B, all nine pairs"""


@dataclass(frozen=True)
class ModelComparison:
    """Everything that a comparison finds."""

    policy: str
    """name, version and hash"""
    a: Side
    b: Side
    hold: Hold
    sources: tuple[str, ...]
    seed: int
    asked: int
    """images asked for"""
    listed: int
    """objects that the sources name"""
    taken: int
    """objects that were sampled"""
    images: int
    """images that both models scored, the sample of which everything is counted"""
    unreadable: Mapping[str, int]
    """by error code, those left out because one of both models could not score them"""
    labelled: int
    """images with labels beside the sample or in it, for precision; 0 without labels"""
    rules: tuple[RuleComparison, ...]
    actions: Transitions
    """of whole images, live rules only, with the policy's thresholds"""
    actions_fitted: Transitions
    """with the thresholds for B under B"""
    summary: tuple[str, ...]
    """the result, in sentences"""

    @property
    def same_model(self) -> bool:
        """Whether both names mean the same model."""
        return self.a.fingerprint == self.b.fingerprint


def changed(transitions: Transitions) -> int:
    """Images whose action differs."""
    return sum(count for (before, after), count in transitions.items() if before != after)

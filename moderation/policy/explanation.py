"""Why an image is decided as it is: every rule's score beside its thresholds, and what the score is made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.policy.compiled import CompiledPolicy, all_prompts
from moderation.policy.decision import ACTIONS, decide
from moderation.policy.schema import Action, Mode, Policy, Rule, Severity
from moderation.policy.score_kind import ScoreKind


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """One rule's part in the decision on an image."""

    rule: str
    """the rule's id"""
    category: str
    severity: Severity
    mode: Mode
    kind: ScoreKind
    score: float
    """the highest over frames, as the pipeline stores it (float32)"""
    review: float | None
    block: float | None
    action: Action
    """what the score alone asks for; a shadow rule's is never carried out"""
    distance: str
    """to the next action, in words: `0.04 below block`, `0.12 above review`, `at block`"""
    frame: int
    """the frame that gave the score; prompt and lookalike are of the same one"""
    prompt: str
    """the rule's prompt that the image is closest to"""
    cosine: float
    """of that prompt, in [-1, 1]"""
    lookalike: str | None
    """the strongest of what the rule is contrasted with; None where its score contrasts with nothing"""
    lookalike_cosine: float | None
    head: str | None = None
    """of a rule that is scored by a head: what that was learned from, in words"""

    @property
    def acts(self) -> bool:
        """Whether the rule flags the image."""
        return self.mode is Mode.LIVE and self.action is not Action.ALLOW

    @property
    def verdict(self) -> str:
        """The action in words: `block`, or `would block` of a shadow rule."""
        return (
            f"would {self.action.value}" if self.mode is Mode.SHADOW and self.action is not Action.ALLOW else self.action.value
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a policy decides for one image, and why. An image that cannot be read has an error code and no rules."""

    uri: str
    etag: str
    """the version that was explained; empty if there was none"""
    action: Action
    top_rule: str | None
    """the rule that decided; of an allowed image the live rule that came closest to acting"""
    near_threshold: bool
    rules: tuple[RuleExplanation, ...]
    """every rule that is scored, in file order; rules that are off are not"""
    frames: int = 0
    """frames or pages in the file; 0 where it cannot be read"""
    error_code: str | None = None
    error_detail: str | None = None
    decided_by: str | None = None
    """the policy's key that decided an image that cannot be read: `unreadable` or `unsupported`"""

    @property
    def top(self) -> RuleExplanation | None:
        """The explanation of the top rule."""
        return next((rule for rule in self.rules if rule.rule == self.top_rule), None)


def explain(
    compiled: CompiledPolicy,
    embeddings: NDArray[np.float16],
    frames: Sequence[int],
    *,
    uri: str,
    etag: str = "",
    frame_count: int = 1,
) -> Explanation:
    """Explain the decision on one image, from the embeddings as they are stored.

    Args:
        compiled: the policy with its prompt embeddings.
        embeddings: float16 [F, D], unit length, one row per frame, at least one.
        frames: the frames' numbers in the file, in the order of the rows.
        uri: what the image is called.
        etag: the version of the image.
        frame_count: how many frames the file has.

    Raises:
        ValueError: embeddings of another shape, or none.
    """
    if len(embeddings) != len(frames) or not len(frames):
        raise ValueError(f"expected one embedding per frame, got {len(embeddings)} for {len(frames)} frames")
    policy, rules = compiled.policy, compiled.rules
    by_frame = compiled.score(embeddings)
    cosines = compiled.cosines(embeddings)
    at = {prompt: i for i, prompt in enumerate(all_prompts(policy))}
    best = by_frame.score.argmax(axis=0)  # the earliest frame among equals
    scores = by_frame.score[best, np.arange(len(rules))]
    decided = decide(scores[None, :], compiled.thresholds)

    explained = []
    for r, rule in enumerate(rules):
        row = int(best[r])
        lookalike, lookalike_cosine = _strongest(rule, policy, at, cosines[row])
        action = ACTIONS[decided.rule_action[0, r]]
        explained.append(
            RuleExplanation(
                rule=rule.id,
                category=rule.category,
                severity=rule.severity,
                mode=rule.mode,
                kind=rule.score,
                score=float(scores[r]),
                review=rule.review,
                block=rule.block,
                action=action,
                distance=distance(float(scores[r]), rule.review, rule.block, action),
                frame=frames[row],
                prompt=compiled.evidence[r][by_frame.top_prompt[row, r]],
                cosine=float(by_frame.similarity[row, r]),
                lookalike=lookalike,
                lookalike_cosine=lookalike_cosine,
                head=policy.assets.heads[rule.id].about if rule.id in policy.assets.heads else None,
            )
        )
    top = int(decided.top_rule[0])
    return Explanation(
        uri=uri,
        etag=etag,
        action=ACTIONS[decided.action[0]],
        top_rule=rules[top].id if top >= 0 else None,
        near_threshold=bool(decided.near[0]),
        rules=tuple(explained),
        frames=frame_count,
    )


def unreadable(policy: Policy, uri: str, code: str, detail: str, etag: str = "") -> Explanation:
    """The explanation of an image that cannot be scored: the policy's `unreadable` or `unsupported` decides."""
    return Explanation(
        uri,
        etag,
        policy.action_on_error(code),
        None,
        near_threshold=False,
        rules=(),
        error_code=code,
        error_detail=detail,
        decided_by=policy.key_on_error(code),
    )


def distance(score: float, review: float | None, block: float | None, action: Action) -> str:
    """How far a score is from the next stronger action; if there is none, from the threshold it reached.

    `0.04 below block`, `0.12 above review`, `at block`; empty for a rule without thresholds.
    """
    if action is Action.ALLOW:
        threshold, name = (block, "block") if review is None or review == block else (review, "review")
        return f"{_apart(score, threshold)} below {name}" if threshold is not None else ""
    reached = block if action is Action.BLOCK else review
    if reached is None or np.float32(score) == np.float32(reached):
        return f"at {action.value}"
    if action is Action.REVIEW and block is not None:
        return f"{_apart(score, block)} below block"
    return f"{_apart(score, reached)} above {action.value}"


def _apart(score: float, threshold: float) -> str:
    """0.04; as many digits as a small distance needs; `just` below a ten-thousandth."""
    apart = abs(np.float64(np.float32(score)) - np.float64(np.float32(threshold)))
    if apart < 0.00005:
        return "just"
    digits = max(2, -math.floor(math.log10(apart)))
    return f"{apart:.{digits}f}"


def _strongest(rule: Rule, policy: Policy, at: dict[str, int], cosines: NDArray[np.float64]) -> tuple[str | None, float | None]:
    """The lookalike with the highest cosine, of the rule's own and the policy's."""
    lookalikes = tuple(dict.fromkeys((*rule.contrast, *policy.contrast)))
    if not rule.score.facts.uses_contrast or not lookalikes:
        return None, None
    strongest = max(lookalikes, key=lambda prompt: cosines[at[prompt]])
    return strongest, float(np.float32(cosines[at[strongest]]))

"""Why an image is decided as it is: every rule's score beside its thresholds, and what the score is made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.lists.lookup import ImageHashes
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.deciding import decide_images
from moderation.policy.decision import ACTIONS
from moderation.policy.known_images import KnownImages
from moderation.policy.list_explanation import ListExplanation, deciding, explain_lists
from moderation.policy.schema import Action, Mode, Policy, Severity
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
    """the rule's prompt or liked exemplar that the image is closest to, or the name of its head"""
    cosine: float
    """of that prompt or exemplar, or of the head's direction, in [-1, 1]"""
    lookalike: str | None
    """the closest of what the rule compares with, a lookalike or another image; None where its score compares with nothing"""
    lookalike_cosine: float | None
    prompt_sha256: str | None = None
    """of the exemplar's file, where `prompt` is one"""
    lookalike_sha256: str | None = None
    """of the image's file, where `lookalike` is one"""
    overridden: bool = False
    """whether the rule would act but for a hash list that allows"""
    head: str | None = None
    """of a rule that is scored by a head: what that was learned from, in words"""

    @property
    def acts(self) -> bool:
        """Whether the rule flags the image."""
        return self.mode is Mode.LIVE and self.action is not Action.ALLOW and not self.overridden

    @property
    def verdict(self) -> str:
        """The action in words: `block`, or `would block` of a shadow rule, or of one that a list overrides."""
        only_would = (self.mode is Mode.SHADOW and self.action is not Action.ALLOW) or self.overridden
        return f"would {self.action.value}" if only_would else self.action.value


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a policy decides for one image, and why. An image that cannot be read has an error code and no rules."""

    uri: str
    etag: str
    """the version that was explained; empty if there was none"""
    action: Action
    top_rule: str | None
    """the rule or hash list that decided; of an allowed image the live rule that came closest to acting"""
    near_threshold: bool
    rules: tuple[RuleExplanation, ...]
    """every rule that is scored, in file order; rules that are off are not"""
    frames: int = 0
    """frames or pages in the file; 0 where it cannot be read"""
    error_code: str | None = None
    error_detail: str | None = None
    decided_by: str | None = None
    """the policy's key that decided an image that cannot be read: `unreadable` or `unsupported`; None where a list did"""
    lists: tuple[ListExplanation, ...] = ()
    """hash lists that the image is on, shadow ones too"""

    @property
    def by_list(self) -> ListExplanation | None:
        """The list that decided; None where rules did, or the policy's key."""
        return deciding(self.lists)

    @property
    def restricted(self) -> bool:
        """Whether nothing of the image may be shown."""
        return any(one.restricted for one in self.lists)

    @property
    def top(self) -> RuleExplanation | None:
        """The explanation of the top rule; None where a list decided."""
        return next((rule for rule in self.rules if rule.rule == self.top_rule), None)


def explain(
    compiled: CompiledPolicy,
    embeddings: NDArray[np.float16],
    frames: Sequence[int],
    *,
    uri: str,
    etag: str = "",
    frame_count: int = 1,
    hashes: ImageHashes | None = None,
) -> Explanation:
    """Explain the decision on one image, from the embeddings as they are stored.

    Args:
        compiled: the policy with its prompt embeddings.
        embeddings: float16 [F, D], unit length, one row per frame, at least one.
        frames: the frames' numbers in the file, in the order of the rows.
        uri: what the image is called.
        etag: the version of the image.
        frame_count: how many frames the file has.
        hashes: of this one image; None will do under a policy without hash lists.

    Raises:
        ValueError: embeddings of another shape, or none.
    """
    if len(embeddings) != len(frames) or not len(frames):
        raise ValueError(f"expected one embedding per frame, got {len(embeddings)} for {len(frames)} frames")
    rules = compiled.rules
    by_frame = compiled.score(embeddings)
    cosines = compiled.cosines(embeddings)
    best = by_frame.score.argmax(axis=0)  # the earliest frame among equals
    scores = by_frame.score[best, np.arange(len(rules))]
    known = compiled.known_images
    found = decide_images(compiled, scores[None, :], known.match(hashes) if known and hashes is not None else None)
    decided = found.rules
    overridden = np.zeros(len(rules), np.bool_) if found.listed is None else found.listed.outcome.overridden[0]

    explained = []
    for r, rule in enumerate(rules):
        row = int(best[r])
        others, nearest = compiled.others[r], int(by_frame.top_prompt[row, r])
        other = others[int(cosines[row, [one.row for one in others]].argmax())] if others else None
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
                prompt=compiled.evidence[r][nearest],
                cosine=float(by_frame.similarity[row, r]),
                lookalike=other.name if other else None,
                lookalike_cosine=float(np.float32(cosines[row, other.row])) if other else None,
                prompt_sha256=compiled.liked[r][nearest] if compiled.liked[r] else None,
                lookalike_sha256=other.sha256 if other else None,
                overridden=bool(overridden[r]),
                head=compiled.policy.assets.heads[rule.id].about if rule.id in compiled.policy.assets.heads else None,
            )
        )
    lists = explain_lists(found.listed)
    by_list, top = deciding(lists), int(decided.top_rule[0])
    return Explanation(
        uri=uri,
        etag=etag,
        action=ACTIONS[decided.action[0]],
        top_rule=by_list.list if by_list else rules[top].id if top >= 0 else None,
        near_threshold=bool(decided.near[0]),
        rules=tuple(explained),
        frames=frame_count,
        lists=lists,
    )


def unreadable(
    policy: Policy, uri: str, code: str, detail: str, etag: str = "", *, hashes: ImageHashes | None = None
) -> Explanation:
    """The explanation of an image that cannot be scored: the policy's `unreadable`, `unsupported` or a hash list decides.

    `hashes`: of this one image; None where its bytes could not be read.
    """
    action, listed, known = policy.action_on_error(code), None, KnownImages(policy)
    if known and hashes is not None:
        listed = known.judge_unscored(hashes, np.array([ACTIONS.index(action)], np.int8))
        action = ACTIONS[listed.outcome.action[0]]
    lists = explain_lists(listed)
    by_list = deciding(lists)
    return Explanation(
        uri,
        etag,
        action,
        by_list.list if by_list else None,
        near_threshold=False,
        rules=(),
        error_code=code,
        error_detail=detail,
        decided_by=None if by_list else policy.key_on_error(code),
        lists=lists,
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

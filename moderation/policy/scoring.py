"""From embeddings to rule scores.

For a unit image embedding v and a prompt t, w_t is the normalised mean of the normalised text embeddings of t in every
template, and s_t = v·w_t is the CLIP cosine, in [-1, 1] (Radford et al. 2021, section 3.1.4).

- similarity: the maximum of s_t over the rule's prompts.
- contrast: the softmax of logit_scale·s over the rule's prompts and both contrast lists together, summed over the rule's
  prompts: zero-shot classification as in the CLIP paper. In [0, 1]; a score, not a probability.
- sigmoid: the maximum of sigmoid(logit_scale·s_t + logit_bias), for SigLIP-family models (Zhai et al. 2023).

Everything is computed in float64 from the float16 embeddings as they are stored and rounded to float32 at the end, so that
the size of a batch and the order of its images do not show in a score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moderation.errors import PolicyError
from moderation.policy.schema import Policy, Rule, ScoreKind


@dataclass(frozen=True)
class TextHead:
    """What a model contributes to scoring: text embeddings and how cosines become logits."""

    texts: Mapping[str, NDArray[np.float32]]
    """every templated prompt with its unit embedding [D]"""
    logit_scale: float
    """multiplies cosines; 100 for OpenAI's CLIP models"""
    logit_bias: float | None
    """added to scaled cosines; SigLIP-family models only"""


def prompt_texts(policy: Policy) -> list[str]:
    """Every prompt of the policy in every template, each once, in order."""
    return list(dict.fromkeys(t.replace("{}", p) for p in all_prompts(policy) for t in policy.templates))


def all_prompts(policy: Policy) -> list[str]:
    """The distinct prompts and lookalikes of the rules that are scored, in order."""
    rules = policy.active_rules
    return list(dict.fromkeys([*policy.contrast, *(p for rule in rules for p in (*rule.prompts, *rule.contrast))]))


@dataclass(frozen=True)
class RuleScores:
    """Scores of N embeddings under R rules."""

    score: NDArray[np.float32]
    """[N, R]"""
    similarity: NDArray[np.float32]
    """[N, R] the highest cosine among the rule's prompts, whatever the score kind"""
    top_prompt: NDArray[np.int64]
    """[N, R] that prompt's index in `rule.prompts`"""


@dataclass(frozen=True)
class CompiledPolicy:
    """A policy with its prompt embeddings: all that is needed to score embeddings. Picklable, a few hundred kB."""

    policy: Policy
    weights: NDArray[np.float64]
    """[P, D] w_t of `all_prompts(policy)`"""
    logit_scale: float
    logit_bias: float | None

    @classmethod
    def build(cls, policy: Policy, head: TextHead) -> "CompiledPolicy":
        """Put policy and model together. Raises `PolicyError` where they do not fit."""
        if head.logit_bias is None:
            for rule in policy.active_rules:
                if rule.score is ScoreKind.SIGMOID:
                    raise PolicyError(
                        f"rule {rule.id!r}: `sigmoid` needs a SigLIP-family model; {policy.model.label} has no bias: "
                        "use `score: contrast`"
                    )
        weights = np.stack([_weight(prompt, policy.templates, head.texts) for prompt in all_prompts(policy)])
        return cls(policy, weights, head.logit_scale, head.logit_bias)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that are scored: the columns of the scores."""
        return self.policy.active_rules

    @cached_property
    def _columns(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Per rule the rows of `weights` of its prompts, and of all it is contrasted with."""
        index = {prompt: i for i, prompt in enumerate(all_prompts(self.policy))}
        return [
            (
                np.array([index[p] for p in rule.prompts]),
                np.array([index[p] for p in dict.fromkeys((*rule.contrast, *self.policy.contrast))], dtype=np.int64),
            )
            for rule in self.rules
        ]

    def cosines(self, embeddings: NDArray[np.float16]) -> NDArray[np.float64]:
        """Cosines [N, P] of float16 unit embeddings [N, D] and `all_prompts(policy)`, in [-1, 1].

        Raises `ValueError` for embeddings of another shape.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.weights.shape[1]:
            raise ValueError(f"embeddings of shape [N, {self.weights.shape[1]}] expected, got {list(embeddings.shape)}")
        found: NDArray[np.float64] = np.clip(embeddings.astype(np.float64) @ self.weights.T, -1.0, 1.0)
        return found

    def score(self, embeddings: NDArray[np.float16]) -> RuleScores:
        """Scores of float16 unit embeddings [N, D]."""
        cosines = self.cosines(embeddings)
        count = len(embeddings), len(self.rules)
        score, similarity = np.empty(count, np.float32), np.empty(count, np.float32)
        top_prompt = np.empty(count, np.int64)
        for r, (rule, (prompts, contrast)) in enumerate(zip(self.rules, self._columns, strict=True)):
            own = cosines[:, prompts]
            top_prompt[:, r] = own.argmax(axis=1)
            highest = own.max(axis=1)
            similarity[:, r] = highest
            if rule.score is ScoreKind.SIMILARITY:
                score[:, r] = highest
            elif rule.score is ScoreKind.SIGMOID:
                logits = self.logit_scale * highest + (self.logit_bias or 0.0)
                score[:, r] = np.exp(-np.logaddexp(0.0, -logits))  # 1 / (1 + e^-x), which would overflow
            else:
                score[:, r] = _softmax_share(self.logit_scale * own, self.logit_scale * cosines[:, contrast])
        return RuleScores(score, similarity, top_prompt)


def _weight(prompt: str, templates: tuple[str, ...], texts: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    mean = np.mean([_unit(texts[t.replace("{}", prompt)].astype(np.float64)) for t in templates], axis=0)
    return _unit(mean)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return result


def _softmax_share(own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of `own` logits [N, A] in the softmax over `own` and `other` [N, B] together: [N]."""
    top = np.maximum(own.max(axis=1), other.max(axis=1, initial=-np.inf))[:, None]
    own_sum = np.exp(own - top).sum(axis=1)
    share: NDArray[np.float64] = own_sum / (own_sum + np.exp(other - top).sum(axis=1))
    return share

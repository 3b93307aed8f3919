"""From embeddings to rule scores.

For a unit image embedding v and a prompt t, w_t is the normalised mean of the normalised text embeddings of t in every
template, and s_t = v·w_t is the CLIP cosine, in [-1, 1] (Radford et al. 2021, section 3.1.4).

- similarity: the maximum of s_t over the rule's prompts.
- contrast: the softmax of logit_scale·s over the rule's prompts and both contrast lists together, summed over the rule's
  prompts: zero-shot classification as in the CLIP paper. In [0, 1]; a score, not a probability.
- sigmoid: the maximum of sigmoid(logit_scale·s_t + logit_bias), for SigLIP-family models (Zhai et al. 2023).
- examples: the share of liked exemplars in the weight of all exemplars, by the cosines of their embeddings (`exemplars`).
- head: the probability that a learned head gives (`head`).

Everything is computed in float64 from the float16 embeddings as they are stored and rounded to float32 at the end, in blocks
of one size, so that the size of a batch and the order of its images do not show in a score.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from moderation.common.float16_blocks import double_blocks
from moderation.errors import ModelError, PolicyError
from moderation.policy.decision import Thresholds
from moderation.policy.exemplars import nearness
from moderation.policy.known_images import KnownImages
from moderation.policy.schema import Policy, Rule
from moderation.policy.score_kind import ScoreKind

T = TypeVar("T", np.float32, np.int64)

MAX_LOGIT_SCALE = 350.0
"""Beyond it, e^(scale·cosine) leaves the range of float64. CLIP models are trained with at most 100, SigLIP's come to 120."""


@dataclass(frozen=True)
class TextHead:
    """What a model contributes to scoring: text embeddings and how cosines become logits."""

    texts: Mapping[str, NDArray[np.float32]]
    """every templated prompt with its unit embedding [D]"""
    logit_scale: float
    """multiplies cosines; 100 for OpenAI's CLIP models"""
    logit_bias: float | None
    """added to scaled cosines; SigLIP-family models only"""
    images: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)
    """the unit embeddings [F, D] of each exemplar's frames, by the SHA-256 of its bytes"""


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
    """[N, R] the highest cosine among the rule's prompts or liked exemplars, or that with a head's direction"""
    top_prompt: NDArray[np.int64]
    """[N, R] that prompt's or exemplar's index in `CompiledPolicy.evidence`"""


@dataclass(frozen=True, slots=True)
class Other:
    """Something that a rule's score compares an image with besides what it looks for."""

    row: int
    """of `CompiledPolicy.weights`"""
    name: str
    """a lookalike, or the name of an image"""
    sha256: str | None = None
    """of an image"""


@dataclass(frozen=True)
class CompiledPolicy:
    """A policy with its prompt embeddings: all that is needed to score embeddings. Picklable, a few hundred kB."""

    policy: Policy
    weights: NDArray[np.float64]
    """[P, D] w_t of `all_prompts(policy)`, then the embeddings of exemplars"""
    logit_scale: float
    logit_bias: float | None
    exemplars: tuple[str, ...] = ()
    """the SHA-256 of the exemplar of each row of `weights` behind those of prompts"""

    @classmethod
    def build(cls, policy: Policy, head: TextHead) -> "CompiledPolicy":
        """Put policy and model together.

        Raises:
            PolicyError: a rule asks for a score that the model does not have, or a head is for embeddings of another size.
            ModelError: the model's logit scale is not one that a trained model has.
        """
        if not 0 < head.logit_scale <= MAX_LOGIT_SCALE:
            raise ModelError(
                f"{policy.model.label} has a logit scale of {head.logit_scale:g}, not one between 0 and {MAX_LOGIT_SCALE:g}: "
                "the checkpoint is not a trained CLIP model"
            )
        if head.logit_bias is None:
            for rule in policy.active_rules:
                if rule.score.facts.needs_bias:
                    raise PolicyError(
                        f"rule {rule.id!r}: `{rule.score}` needs a SigLIP-family model; {policy.model.label} has no bias: "
                        "use `score: contrast`"
                    )
        own = [_weight(prompt, policy.templates, head.texts) for prompt in all_prompts(policy)]
        if bare := [one.name for image, one in policy.assets.images.items() if image not in head.images]:
            raise PolicyError(f"{len(bare):,} exemplars have no embedding, such as {bare[0]!r}")
        rows = [(image, vector.astype(np.float64)) for image in policy.assets.images for vector in head.images[image]]
        sizes = {len(vector) for vector in (*own, *(vector for _, vector in rows))}
        if len(sizes) > 1:
            raise PolicyError("the embeddings of prompts and exemplars are of different models: their lengths differ")
        for rule in policy.active_rules:
            learned = policy.assets.heads.get(rule.id)
            if learned is not None and sizes | {learned.dim} != {learned.dim}:
                raise PolicyError(
                    f"rule {rule.id!r}: the head {learned.name!r} is for embeddings of {learned.dim} numbers, those of "
                    f"{policy.model.label} have {min(sizes)}: learn it again with this model"
                )
            sizes |= {learned.dim} if learned is not None else set()
        weights = np.array([*own, *(vector for _, vector in rows)], np.float64).reshape(-1, min(sizes))
        return cls(policy, weights, head.logit_scale, head.logit_bias, tuple(image for image, _ in rows))

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return int(self.weights.shape[1])

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that are scored: the columns of the scores."""
        return self.policy.active_rules

    @cached_property
    def thresholds(self) -> Thresholds:
        """What their scores are compared with."""
        return Thresholds.of(self.rules, self.policy.near)

    @cached_property
    def known_images(self) -> KnownImages:
        """Its hash lists."""
        return KnownImages(self.policy)

    @cached_property
    def evidence(self) -> tuple[tuple[str, ...], ...]:
        """Per rule what `RuleScores.top_prompt` counts: its prompts, its liked exemplars by frames, or the name of its head."""
        return tuple(self._evidence(rule, own) for rule, (own, _, _) in zip(self.rules, self._columns, strict=True))

    def _evidence(self, rule: Rule, own: list[int]) -> tuple[str, ...]:
        if rule.score is ScoreKind.HEAD:
            return (self.policy.assets.heads[rule.id].name,)
        if rule.score is ScoreKind.EXAMPLES:
            names = {one.sha256: one.name for one in self.policy.assets.exemplars[rule.id].like}
            return tuple(names[image] for image in self._images(own))
        return rule.prompts

    @cached_property
    def liked(self) -> tuple[tuple[str, ...], ...]:
        """Per rule the SHA-256 of each of its `evidence` where that is exemplars; empty for other rules."""
        columns = zip(self.rules, self._columns, strict=True)
        return tuple(self._images(own) if rule.score is ScoreKind.EXAMPLES else () for rule, (own, _, _) in columns)

    @cached_property
    def others(self) -> tuple[tuple[Other, ...], ...]:
        """Per rule what its score compares with: lookalikes, or unlike and ordinary images; empty where it does not."""
        columns = zip(self.rules, self._columns, strict=True)
        return tuple(self._others(rule, others + ordinary) for rule, (_, others, ordinary) in columns)

    def _others(self, rule: Rule, rows: list[int]) -> tuple[Other, ...]:
        if rule.score is ScoreKind.EXAMPLES:
            assets = self.policy.assets
            names = {one.sha256: one.name for one in (*assets.background, *assets.exemplars[rule.id].unlike)}
            return tuple(Other(row, names[image], image) for row, image in zip(rows, self._images(rows), strict=True))
        prompts = all_prompts(self.policy)
        return tuple(Other(row, prompts[row]) for row in rows) if rule.score.facts.uses_contrast else ()

    def _images(self, rows: list[int]) -> tuple[str, ...]:
        """The SHA-256 of the exemplars in these rows of `weights`."""
        first = len(self.weights) - len(self.exemplars)
        return tuple(self.exemplars[row - first] for row in rows)

    @cached_property
    def _columns(self) -> list[tuple[list[int], list[int], list[int]]]:
        """Per rule the rows of `weights` of its prompts or liked exemplars, of its contrast, and of the background."""
        prompts = {prompt: i for i, prompt in enumerate(all_prompts(self.policy))}
        images: dict[str, list[int]] = {}
        for i, image in enumerate(self.exemplars, len(prompts)):
            images.setdefault(image, []).append(i)
        assets = self.policy.assets
        found = []
        for rule in self.rules:
            if rule.score is ScoreKind.EXAMPLES:
                own = assets.exemplars[rule.id]
                named = {one.sha256 for one in (*own.like, *own.unlike)}
                like, unlike = ([i for one in those for i in images[one.sha256]] for those in (own.like, own.unlike))
                ordinary = [i for one in assets.background if one.sha256 not in named for i in images[one.sha256]]
                found.append((like, unlike, ordinary))
            else:
                contrast = dict.fromkeys((*rule.contrast, *self.policy.contrast))
                found.append(([prompts[p] for p in rule.prompts], [prompts[p] for p in contrast], []))
        return found

    def direction(self, rule: int) -> NDArray[np.float64] | None:
        """[D] of unit length: from what a rule is contrasted with to its prompts or liked exemplars; None if it has none.

        Args:
            rule: its index in `rules`.
        """
        own, others, _ = self._columns[rule]
        if not own:
            return None
        towards = self.weights[own].mean(axis=0) - (self.weights[others].mean(axis=0) if others else 0.0)
        length = float(np.linalg.norm(towards))
        return towards / length if length > 0 else None

    @cached_property
    def _softmax_terms(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[R, T] twice: how often each of T prompts counts in a rule's own sum and in its contrast's; 0 for other scores."""
        own, other = np.zeros((2, len(self.rules), len(self.weights) - len(self.exemplars)))
        for r, (rule, (prompts, contrast, _)) in enumerate(zip(self.rules, self._columns, strict=True)):
            if rule.score is ScoreKind.CONTRAST:
                np.add.at(own[r], prompts, 1.0)
                np.add.at(other[r], contrast, 1.0)
        return own, other

    def cosines(self, embeddings: NDArray[np.float16]) -> NDArray[np.float64]:
        """Cosines [N, P] of float16 unit embeddings [N, D] and the rows of `weights`, in [-1, 1].

        Raises `ValueError` for embeddings of another shape.
        """
        found = [cosines[:, : images.stop - images.start].T for images, cosines, _ in self._blocks(embeddings)]
        return np.concatenate(found) if found else np.empty((0, len(self.weights)))

    def score(self, embeddings: NDArray[np.float16]) -> RuleScores:
        """Scores of float16 unit embeddings [N, D], with the evidence for them."""
        shape = len(self.rules), len(embeddings)
        score, similarity, top_prompt = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.int64)
        for images, cosines, vectors in self._blocks(embeddings):
            count = images.stop - images.start
            score[:, images] = self._scores(cosines, vectors)[:, :count]
            for r, (prompts, _, _) in enumerate(self._columns):
                if self.rules[r].score is ScoreKind.HEAD:
                    top_prompt[r, images], similarity[r, images] = 0, self._along_head(r, vectors)[:count]
                    continue
                own = cosines[prompts, :count]
                top_prompt[r, images], similarity[r, images] = own.argmax(axis=0), own.max(axis=0)
        return RuleScores(_by_image(score), _by_image(similarity), _by_image(top_prompt))

    def scores(self, embeddings: NDArray[np.float16]) -> NDArray[np.float32]:
        """The same scores [N, R] alone, for a third of the time."""
        found = np.empty((len(embeddings), len(self.rules)), np.float32)
        for images, cosines, vectors in self._blocks(embeddings):
            found[images] = self._scores(cosines, vectors)[:, : images.stop - images.start].T
        return found

    def _blocks(self, embeddings: NDArray[np.float16]) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
        """Some images at a time, their cosines [P, BLOCK] and embeddings [BLOCK, D], the last of which may be padding."""
        dim = self.weights.shape[1]
        if embeddings.ndim != 2 or embeddings.shape[1] != dim:
            raise ValueError(f"expected embeddings of shape [N, {dim}], got {list(embeddings.shape)}")
        for images, doubles in double_blocks(embeddings):
            yield images, np.clip(self.weights @ doubles.T, -1.0, 1.0), doubles

    def _along_head(self, rule: int, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cosines [N] of embeddings [N, D] with a head's direction; 0 where it has none."""
        direction = self.policy.assets.heads[self.rules[rule].id].direction
        return np.zeros(len(vectors)) if direction is None else np.clip(vectors @ direction, -1.0, 1.0)

    def _scores(self, cosines: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores [R, N] for cosines [P, N] and embeddings [N, D]."""
        own, other = self._softmax_terms
        powers = np.exp(self.logit_scale * (cosines[: own.shape[1]] - 1.0))  # of prompts, from e^-700 to 1 at the most
        own_sum = own @ powers
        with np.errstate(invalid="ignore"):  # 0 / 0 in rules with another score, which follow
            found: NDArray[np.float64] = own_sum / (own_sum + other @ powers)
        for r, (rule, (prompts, others, ordinary)) in enumerate(zip(self.rules, self._columns, strict=True)):
            match rule.score:
                case ScoreKind.CONTRAST:
                    pass  # all such rules at once, above
                case ScoreKind.SIMILARITY:
                    found[r] = cosines[prompts].max(axis=0)
                case ScoreKind.SIGMOID:
                    logits = self.logit_scale * cosines[prompts].max(axis=0) + (self.logit_bias or 0.0)
                    found[r] = np.exp(-np.logaddexp(0.0, -logits))  # 1 / (1 + e^-x), which would overflow
                case ScoreKind.EXAMPLES:
                    found[r] = nearness(cosines[prompts], cosines[others], cosines[ordinary])
                case ScoreKind.HEAD:
                    found[r] = self.policy.assets.heads[rule.id].scores(vectors)
                case _:
                    assert_never(rule.score)
        return found


def _by_image(found: NDArray[T]) -> NDArray[T]:
    return np.ascontiguousarray(found.T)


def _weight(prompt: str, templates: tuple[str, ...], texts: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    return _unit(np.mean([_unit(texts[t.replace("{}", prompt)].astype(np.float64)) for t in templates], axis=0))


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return result

"""A head: what was learned from labels, or elsewhere, to score embeddings without a prompt. Pure arithmetic."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moderation.common.findings import Finding

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""weight [out, in] and bias [out]"""
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Learned:
    """What the file of a head says of how it was learned."""

    prevalence: float
    """the share of positives at which its scores are probabilities"""
    positives: int
    negatives: int
    labels: str
    """SHA-256 of the labels, as hex"""

    def __str__(self) -> str:
        return (
            f"learned from {self.positives:,} true and {self.negatives:,} false labels; a probability where "
            f"{100 * self.prevalence:.3g} % of images are positive"
        )


@dataclass(frozen=True, eq=False)
class Head:
    """A logistic regression on unit embeddings, or one with a hidden layer before it (ReLU), and its calibration."""

    name: str
    """the file, as the policy names it: what stands in the place of a rule's prompt"""
    digest: str
    """SHA-256 of the file, as hex"""
    layers: tuple[Layer, ...]
    """one or two; the last has one output"""
    model: str
    """fingerprint of the model whose embeddings it was learned from"""
    knots: tuple[Numbers, Numbers] | None = None
    """logits, increasing, and their probabilities, between which probabilities are interpolated; None: the logistic function"""
    learned: Learned | None = None
    """None of a head from elsewhere"""
    data: bytes = field(default=b"", repr=False)
    """the file"""
    place: Finding | None = field(default=None, repr=False)
    """where the policy names it, for messages; None of one that is stored with a run"""

    @property
    def dim(self) -> int:
        """Numbers of an embedding that it takes."""
        return int(self.layers[0][0].shape[1])

    @property
    def about(self) -> str:
        """What it was learned from, in words."""
        return "not learned here: its file does not say from what" if self.learned is None else str(self.learned)

    def refused(self, message: str, hint: str) -> Finding:
        """A message about it, at its place in the policy; without a file where that is not known."""
        return replace(self.place or Finding("", 0, 0, ""), message=message, hint=hint)

    @cached_property
    def direction(self) -> Numbers | None:
        """[D] of unit length: where scores grow; None with a hidden layer, which has no one direction."""
        if len(self.layers) > 1:
            return None
        weight = self.layers[0][0][0].astype(np.float64)
        length = float(np.linalg.norm(weight))
        return weight / length if length > 0 else None

    def scores(self, vectors: Numbers) -> Numbers:
        """Probabilities [N] of unit embeddings [N, D]."""
        logits = self.logits(vectors)
        if self.knots is not None:
            return np.interp(logits, *self.knots)
        return logistic(logits)

    def logits(self, vectors: Numbers) -> Numbers:
        """What the last layer says [N] of unit embeddings [N, D]."""
        found = vectors
        for at, (weight, bias) in enumerate(self._doubles):
            found = found @ weight.T + bias
            if at + 1 < len(self._doubles):
                found = np.maximum(found, 0.0)
        return found[:, 0]

    @cached_property
    def _doubles(self) -> tuple[tuple[Numbers, Numbers], ...]:
        return tuple((weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in self.layers)


def logistic(logits: Numbers) -> Numbers:
    """Probabilities of logits: 1 / (1 + e^-x), which would overflow."""
    found: Numbers = np.exp(-np.logaddexp(0.0, -logits))
    return found

"""A head: what was learned from labels, or elsewhere, to score embeddings without a prompt. Pure arithmetic."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""weight [out, in] and bias [out]"""


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
    knots: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """logits, increasing, and their probabilities, between which probabilities are interpolated; None: the logistic function"""
    data: bytes = field(default=b"", repr=False)
    """the file"""

    @property
    def dim(self) -> int:
        """Numbers of an embedding that it takes."""
        return int(self.layers[0][0].shape[1])

    @property
    def direction(self) -> NDArray[np.float64] | None:
        """[D] of unit length: where scores grow; None with a hidden layer, which has no one direction."""
        if len(self.layers) > 1:
            return None
        weight = self.layers[0][0][0].astype(np.float64)
        length = float(np.linalg.norm(weight))
        return weight / length if length > 0 else None

    def scores(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities [N] of unit embeddings [N, D]."""
        found = vectors
        for at, (weight, bias) in enumerate(self.layers):
            found = found @ weight.astype(np.float64).T + bias.astype(np.float64)
            if at + 1 < len(self.layers):
                found = np.maximum(found, 0.0)
        logits = found[:, 0]
        if self.knots is not None:
            return np.interp(logits, *self.knots)
        probabilities: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits))  # 1 / (1 + e^-x), which would overflow
        return probabilities

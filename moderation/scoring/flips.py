"""int8 beside fp32 on a run's own images, before the run scores with it: how many decisions are different?"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from moderation.errors import ModelError
from moderation.records import ScoredBatch

CHECKED = 128
"""Images that are compared: the first of the run."""
MOST_FLIPS = 0.02
"""Share of them that int8 may decide differently; one image always may."""


@dataclass(frozen=True, slots=True)
class FlipCheck:
    """What the comparison says."""

    images: int
    """scored in both precisions"""
    flips: int
    """of them, those with another action in int8"""
    cosine: float
    """the lowest between both embeddings of a picture; 1 without pictures"""

    def accept(self) -> None:
        """Refuse int8 where it decides too many images differently. Raises `ModelError`."""
        if self.flips > max(1.0, MOST_FLIPS * self.images):
            raise ModelError(
                f"int8 decides {self.flips} of the first {self.images} images differently from fp32, and the limit is "
                f"{MOST_FLIPS:.0%}; the lowest cosine is {self.cosine:.4f}",
                "use `--precision bf16` or `fp32`; `moderate model compare` with `--precision-b int8` shows the images",
            )


def compared(exact: ScoredBatch, fast: ScoredBatch) -> FlipCheck:
    """Compare rows of the same objects, scored in fp32 and in int8."""
    actions, others = _actions(exact), _actions(fast)
    both = actions.keys() & others.keys()
    vectors, other_vectors = _vectors(exact.embeddings), _vectors(fast.embeddings)
    cosines = [_cosine(vectors[key], other_vectors[key]) for key in vectors.keys() & other_vectors.keys()]
    return FlipCheck(len(both), sum(actions[uri] != others[uri] for uri in both), min(cosines, default=1.0))


def _actions(rows: ScoredBatch) -> dict[str, str]:
    decided = rows.decisions.select(["uri", "action", "error_code"]).to_pylist()
    return {row["uri"]: row["action"] for row in decided if row["error_code"] is None}


def _vectors(embeddings: pa.Table) -> dict[tuple[str, int], list[float]]:
    rows = embeddings.select(["uri", "frame", "embedding"]).to_pylist()
    return {(row["uri"], row["frame"]): row["embedding"] for row in rows}


def _cosine(one: list[float], other: list[float]) -> float:
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

"""When a run's rows were scored, and what that says: its steady state, and how long one waited for the first."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FROM, TO = 0.25, 0.9
"""Shares of the images between which a run counts as steady: workers have started, what was read meanwhile is used up, and
there is more to come."""


@dataclass(frozen=True)
class Timeline:
    """What one run of one side left."""

    began: float
    """when it was started, in seconds since 1970"""
    scored_at: NDArray[np.float64]
    """[N], ascending, in seconds since 1970: when each image's batch had been scored"""
    names: tuple[str, ...]
    """[N], ascending: of the files"""
    embeddings: NDArray[np.float32]
    """[N, D], of the files in the order of `names`"""

    @classmethod
    def of(cls, began: float, rows: pa.Table) -> "Timeline":
        """From a run's rows: `uri`, `embedding`, and `scored_at` in seconds."""
        names = [Path(uri).name for uri in rows["uri"].to_pylist()]
        order = np.argsort(names)
        vectors = rows["embedding"].combine_chunks()
        stored = vectors.storage if isinstance(vectors, pa.ExtensionArray) else vectors  # Ray Data writes its own tensors
        flat = stored.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        return cls(
            began,
            np.sort(rows["scored_at"].to_numpy()),
            tuple(names[i] for i in order),
            flat.reshape(len(names), -1)[order],
        )

    @property
    def first_s(self) -> float:
        """Seconds from the start until the first images were scored."""
        return float(self.scored_at[0] - self.began)

    @property
    def rate(self) -> float:
        """Images per second in the steady state. Raises `ValueError` if there were too few batches to tell."""
        ends, counts = np.unique(self.scored_at, return_counts=True)
        done = np.cumsum(counts)
        steady = np.flatnonzero((done >= FROM * done[-1]) & (done <= TO * done[-1]))
        if len(steady) < 2:
            raise ValueError(f"{len(ends)} batches are too few to see a steady state")
        first, last = steady[0], steady[-1]
        return float((done[last] - done[first]) / (ends[last] - ends[first]))


def agreement(one: Timeline, other: Timeline) -> float:
    """The lowest cosine between two runs' embeddings of the same file. Raises `ValueError` if they have no file in common."""
    _, here, there = np.intersect1d(one.names, other.names, assume_unique=True, return_indices=True)
    if not len(here):
        raise ValueError("the two runs have seen no file in common")
    a, b = one.embeddings[here], other.embeddings[there]
    cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(cosines.min())

"""How far two histograms of the same bins are apart. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-4
"""The share that an empty bin counts as, so that the population stability index stays finite."""


def shares(counts: Sequence[float]) -> NDArray[np.float64]:
    """Counts [B] as shares that add up to 1. Raises `ValueError` if they are all 0."""
    array = np.asarray(counts, np.float64)
    total = array.sum()
    if not total > 0:
        raise ValueError("an empty histogram has no shares")
    found: NDArray[np.float64] = array / total
    return found


def population_stability_index(counts: Sequence[float], reference: Sequence[float]) -> float:
    """Σ (p - q) ln(p / q) over bins [B], p and q the shares of two histograms: 0 for equal ones, above 0 for all others.

    The symmetric Kullback-Leibler divergence (Jeffreys 1946), as credit scoring uses it (Siddiqi 2006): below 0.1 is taken
    for no change, above 0.25 for a large one.
    """
    p, q = np.maximum(shares(counts), FLOOR), np.maximum(shares(reference), FLOOR)
    return float(((p - q) * np.log(p / q)).sum())


def kolmogorov_smirnov(counts: Sequence[float], reference: Sequence[float]) -> float:
    """The largest difference between the two cumulative distributions at the bounds of the bins, in 0 to 1."""
    return float(min(1.0, np.abs(np.cumsum(shares(counts)) - np.cumsum(shares(reference))).max()))

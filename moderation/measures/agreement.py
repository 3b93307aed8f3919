"""How well people agree: Cohen's kappa of two reviewers, Krippendorff's alpha of any number. Pure.

Both are 1 for full agreement and 0 for agreement by chance. Values are nominal: no two answers are nearer than two others.

- Cohen (1960): kappa = (p_o - p_e) / (1 - p_e), p_o the share of images on which both agree, p_e the share expected of two
  people who answer independently, each as often as they did.
- Krippendorff (2011), "Computing Krippendorff's alpha-reliability": alpha = 1 - D_o / D_e from coincidences within images.
  An image that u people answered counts each pair of answers 1 / (u - 1) times; one answer alone says nothing.

Intervals are by bootstrap over images: 2,000 resamples, 2.5 % cut off at each end. A bootstrap of data without a disagreement
is a point, which would claim certainty; so the interval also holds what Clopper and Pearson's interval of the share of images
with a disagreement allows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.measures.intervals import CONFIDENCE, Numbers, proportion

Counts = NDArray[np.int64]

_RESAMPLES = 2000
_SEED = 19


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient with its 95 % interval. All three are NaN where everybody always gave one answer: nothing can be said."""

    value: float
    low: float
    high: float
    images: int
    """with at least two answers"""
    answers: int
    """about these"""


def krippendorff(counts: Counts) -> Agreement:
    """Krippendorff's alpha for nominal data with missing values.

    Args:
        counts: [N, V] how many people gave each of V answers about each of N images; a missing answer is not counted.
    """
    paired = counts[counts.sum(axis=1) > 1]
    kinds, of_kind = np.unique(paired.reshape(-1, counts.shape[1]), axis=0, return_counts=True)
    value = float(_alpha(kinds, of_kind[None, :])[0])
    disagree = (kinds > 0).sum(axis=1) > 1
    low, high = _bootstrapped(
        lambda drawn: _alpha(kinds, drawn), of_kind, value, disagree, expected=_expected(kinds, of_kind[None, :])[0]
    )
    return Agreement(value, low, high, len(paired), int(paired.sum()))


def cohen(table: Counts) -> Agreement:
    """Cohen's kappa of two people.

    Args:
        table: [V, V] images by the answer of one (rows) and of the other (columns).
    """
    cells, images = table.ravel(), int(table.sum())
    value = float(_kappa(cells[None, :], len(table))[0])
    disagree = ~np.eye(len(table), dtype=bool).ravel()
    chance = _chance(cells[None, :], len(table))[0]
    low, high = _bootstrapped(lambda drawn: _kappa(drawn, len(table)), cells, value, disagree, expected=1 - chance)
    return Agreement(value, low, high, images, 2 * images)


def _alpha(kinds: Counts, drawn: Counts) -> Numbers:
    """Alpha [B] of data sets that hold the kinds [K, V] of images so many times [B, K]."""
    size = kinds.sum(axis=1)
    apart = (size**2 - (kinds**2).sum(axis=1)) / np.maximum(size - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = drawn @ apart / (drawn @ size)
        return np.asarray(np.where(_expected(kinds, drawn) > 0, 1 - observed / _expected(kinds, drawn), np.nan))


def _expected(kinds: Counts, drawn: Counts) -> Numbers:
    """The share of pairs of answers that would differ by chance, [B]."""
    values = drawn @ kinds
    total = values.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((total**2 - (values**2).sum(axis=1)) / (total * (total - 1.0)))


def _kappa(cells: Counts, answers: int) -> Numbers:
    """Kappa [B] of tables [B, V * V]."""
    total = cells.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        agreed = cells.reshape(-1, answers, answers).trace(axis1=1, axis2=2) / total
        chance = _chance(cells, answers)
        return np.asarray(np.where(chance < 1, (agreed - chance) / (1 - chance), np.nan))


def _chance(cells: Counts, answers: int) -> Numbers:
    """The share of images [B] on which two people with these habits would agree by chance."""
    tables = cells.reshape(-1, answers, answers).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((tables.sum(axis=2) * tables.sum(axis=1)).sum(axis=1) / tables.sum(axis=(1, 2)) ** 2)


def _bootstrapped(
    coefficient: Callable[[Counts], Numbers], counts: Counts, value: float, disagree: NDArray[np.bool_], expected: float
) -> tuple[float, float]:
    images = int(counts.sum())
    if not np.isfinite(value):
        return np.nan, np.nan
    drawn = np.random.default_rng(_SEED).multinomial(images, counts / images, _RESAMPLES)
    found = coefficient(drawn)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(found, [tail, 1 - tail]) if np.isfinite(found).any() else (value, value)
    share = np.array([counts[disagree].sum() / images])
    fewest, most = proportion(share, images, 1 - CONFIDENCE)
    # As many times more or fewer disagreements as the interval of their share allows; with none, each is a pair that differs.
    scale = (1 - value) / share[0] if share[0] > 0 else 1 / expected
    return float(max(-1.0, min(low, value, 1 - most[0] * scale))), float(min(1.0, max(high, value, 1 - fewest[0] * scale)))

"""Confidence intervals that hold at all thresholds at once. Pure.

A threshold is chosen because its labels look good, so an interval made for a threshold that was fixed before comes out too
high and too narrow: the winner's curse. What is used here holds for the whole curve at once, and therefore at whichever
threshold is chosen from it:

- The share of images at or above a threshold is a binomial proportion; its interval is Clopper and Pearson's (1934), at a
  level at which all thresholds together are covered 95 times in 100. These are the confidence bands of equal local levels for
  a distribution function (Berk and Jones 1979; Aldor-Noiman et al. 2013, "The power to see"): tight in the tails, where
  thresholds lie, unlike those of Kolmogorov and Smirnov.
- Precision and recall are ratios X / (X + Y) of sums of such shares over cells that were sampled independently. Their
  intervals come from those of the shares by MOVER, the method of variance estimates recovery (Zou and Donner 2008; for ratios
  Donner and Zou 2012), which keeps them skewed where counts are small, and wide where there are none.
- Labels of unequal weight count as Kish's effective number of equal ones, (sum w)^2 / sum w^2 (Korn and Graubard 1998).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

CONFIDENCE = 0.95

_SIZES = (1, 2, 5, 10, 20, 50, 100, 300, 1000, 3000, 10_000, 100_000)
_LEVELS = (0.05, 0.0247, 0.0122, 0.0073, 0.0047, 0.0030, 0.0021, 0.00143, 0.00104, 0.00085, 0.00070, 0.00052)
"""The level of each single interval at which those of all n order statistics hold together 95 times in 100, by simulation."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shares:
    """The results for one cell, a separately sampled part of the images, at K thresholds."""

    mass: float
    """the cell's share of all images"""
    size: float
    """labels in it; the effective number where their weights differ"""
    x: Numbers | None
    """[K] share of the cell that counts for the ratio's numerator; None where that cannot be"""
    y: Numbers | None
    """[K] share of the cell that counts for the rest of its denominator; None where that cannot be"""
    most: Numbers | None = None
    """[K] the highest share of the cell that either can be, where that is known"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio at K thresholds, with its interval. NaN, 0 and 1 where there is nothing to divide by."""

    value: Numbers
    low: Numbers
    high: Numbers


def local_level(labels: int) -> float:
    """The level of single intervals at which a curve made of so many labels is covered as a whole, 95 times in 100."""
    return float(np.exp(np.interp(np.log(max(labels, 1)), np.log(_SIZES), np.log(_LEVELS))))


def proportion(share: Numbers, size: float, level: float) -> tuple[Numbers, Numbers]:
    """Clopper and Pearson's interval of a proportion that was found to be `share` among `size`, which need not be whole."""
    found, back = np.unique(share, return_inverse=True)
    count = found * size
    rest = np.maximum(size - count, 0.0)
    whole = rest < 1e-9 * size
    low = np.where(count > 0, betaincinv(np.maximum(count, 1e-300), rest + 1, level / 2), 0.0)
    high = np.where(whole, 1.0, betaincinv(count + 1, np.where(whole, 1.0, rest), 1 - level / 2))
    return np.minimum(low, found)[back], np.maximum(high, found)[back]


def ratio(cells: Sequence[Shares], level: float) -> Estimate:
    """X / (X + Y) for the sums X and Y over cells.

    It is at least c where (1 - c) X - c Y is not negative; the interval holds those c for which MOVER's interval of that
    difference holds 0. In one cell an image counts for X or for Y but not both, so that the two are correlated: by
    -sqrt(xy / ((1-x)(1-y))), as in a multinomial sample.
    """
    size = next(len(part) for cell in cells for part in (cell.x, cell.y) if part is not None)
    x, y, to_low, to_high = np.zeros(size), np.zeros(size), np.zeros((3, size)), np.zeros((3, size))
    for cell in cells:
        x_below, x_above = _margins(cell.x, cell, level, size)
        y_below, y_above = _margins(cell.y, cell, level, size)
        together = _correlation(cell)
        x += 0.0 if cell.x is None else cell.mass * cell.x
        y += 0.0 if cell.y is None else cell.mass * cell.y
        to_low += x_below**2, y_above**2, together * x_below * y_above
        to_high += x_above**2, y_below**2, together * x_above * y_below
    total = x + y
    with np.errstate(invalid="ignore"):
        value = x / total
    low, high = _odds(x, y, to_low, larger=False), _odds(x, y, to_high, larger=True)
    with np.errstate(invalid="ignore"):
        high = np.where(np.isinf(high), 1.0, high / (1 + high))
    low = low / (1 + low)
    known = total > 0
    return Estimate(
        value, np.where(known, np.minimum(low, value), 0.0), np.where(known, np.clip(np.maximum(high, value), 0, 1), 1.0)
    )


def _margins(share: Numbers | None, cell: Shares, level: float, size: int) -> tuple[Numbers, Numbers]:
    """How far the interval of a share reaches below and above it, as parts of all images."""
    if share is None:
        return np.zeros(size), np.zeros(size)
    low, high = proportion(share, cell.size, level)
    if cell.most is not None:
        high = np.minimum(high, np.maximum(cell.most, share))
    return cell.mass * (share - low), cell.mass * (high - share)


def _correlation(cell: Shares) -> Numbers | float:
    """Of x and -y, 0 to 1."""
    if cell.x is None or cell.y is None:
        return 0.0
    rest = (1 - cell.x) * (1 - cell.y)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.sqrt(cell.x * cell.y / rest)
    return np.where(cell.x + cell.y >= 1 - 1e-12, 1.0, np.clip(np.nan_to_num(found), 0.0, 1.0))


def _odds(x: Numbers, y: Numbers, squares: Numbers, *, larger: bool) -> Numbers:
    """The end of the interval of X / Y: where (x - r y)^2 = xx + r^2 yy + 2 r xy."""
    a, b, c = y**2 - squares[1], x * y + squares[2], x**2 - squares[0]
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        if larger:
            return np.where(a <= 1e-12 * y**2, np.inf, (b + root) / a)
        return np.where(c <= 1e-12 * x**2, 0.0, c / (b + root))

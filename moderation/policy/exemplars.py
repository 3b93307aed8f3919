"""Exemplars: images that stand for what a rule looks for, or for what it must not take for it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BETA = 20.0
"""How fast the weight of an exemplar falls with its distance from an image."""
DOUBTED = 0.02
"""Share of the background that is left out for each image, the nearest: a few may show what the rule looks for."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One image, by its content."""

    name: str
    """as the policy or its labels file names it: a path beside the policy, or a URI"""
    sha256: str
    """of its bytes, as hex"""
    location: str = field(default="", compare=False)
    """where it is read; empty of those that are stored with a run"""


@dataclass(frozen=True, slots=True)
class Exemplars:
    """The images of one rule."""

    like: tuple[Exemplar, ...]
    unlike: tuple[Exemplar, ...] = ()


def nearness(like: NDArray[np.float64], unlike: NDArray[np.float64], background: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [N] in [0, 1] from cosines with liked exemplars [K, N], unlike ones [U, N] and ordinary images [B, N].

    The share of the liked exemplars in the weight of all, where an exemplar with the cosine c weighs e^(-β(1 - c)), as in
    Tip-Adapter (Zhang et al. 2022): 0.5 where both sides weigh the same. The `DOUBTED` nearest ordinary images are left out.
    K > 0 and U + B > 0.
    """
    others = np.concatenate([unlike, _without_nearest(background)])
    apart = _log_weight(like) - _log_weight(others)
    found: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -apart))
    return found


def _without_nearest(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """With the nearest of each image infinitely far away. A bound is taken, not an order: equal cosines stay together."""
    count = int(DOUBTED * len(cosines))
    if not count:
        return cosines
    last = len(cosines) - 1 - count
    return np.where(cosines > np.partition(cosines, last, axis=0)[last], -np.inf, cosines)


def _log_weight(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the sum of weights [N] of exemplars with these cosines [K, N]."""
    nearest = cosines.max(axis=0)
    found: NDArray[np.float64] = BETA * (nearest - 1.0) + np.log(np.exp(BETA * (cosines - nearest)).sum(axis=0))
    return found

"""Exemplars: images that stand for what a rule looks for, or for what it must not take for it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SHARPNESS = 40.0
"""How fast the score turns from 0 to 1 as an image comes nearer to the liked exemplars than to the others."""


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


def nearness(like: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [N] in [0, 1] from cosines with liked exemplars [K, N] and with unlike and ordinary ones [U, N].

    The logistic function of how much nearer the nearest liked one is: 0.5 where an image is as near to both.
    """
    apart = SHARPNESS * (like.max(axis=0) - others.max(axis=0))
    found: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -apart))
    return found

"""From logits to probabilities at a stated prevalence. Pure.

Platt's scaling (1999), or isotonic regression (Zadrozny and Elkan 2002) where there are enough labels and it predicts labels
that it did not see better. Both are fitted to labels that count as many as they stand for, but with positives no rarer than
`COMMON`; the rest is Bayes' rule. So a prevalence of one in a thousand does not leave the few positives without a say.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from moderation.studies.learning.regression import Numbers, slope, smoothed

COMMON = 0.1
FEWEST = 150
"""Labels of each kind, in effect, from which steps are tried."""
_LEAST = 1e-6
_PLACES = 10
"""Bins of `calibration_error`."""


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities: 1 / (1 + e^-(a·logit + b)), or by interpolation between knots."""

    a: float
    b: float
    knots: tuple[Numbers, Numbers] | None = None

    @property
    def method(self) -> Literal["platt", "isotonic"]:
        """Its name."""
        return "platt" if self.knots is None else "isotonic"

    def __call__(self, logits: Numbers) -> Numbers:
        """Probabilities [N]."""
        if self.knots is not None:
            interpolated: Numbers = np.interp(logits, *self.knots)
            return interpolated
        found: Numbers = expit(self.a * logits + self.b)
        return found


def calibrated(
    logits: Numbers, truth: NDArray[np.bool_], mass: Numbers, fold: NDArray[np.int64]
) -> tuple[Calibration, Numbers]:
    """The calibration, and the probabilities [N] of labels by calibrations that did not see them.

    Args:
        logits: [N] by fits that did not see them.
        truth: [N].
        mass: [N] the share of all images that each stands for.
        fold: [N].
    """
    ways = [_platt]
    if min(_effective(mass[truth]), _effective(mass[~truth])) >= FEWEST:
        ways.append(_isotonic)
    tried = []
    for way in ways:
        unseen = np.zeros(len(truth))
        for one in np.unique(fold):
            out = fold == one
            unseen[out] = way(logits[~out], truth[~out], _rescaled(truth, mass, ~out))(logits[out])
        tried.append((_loss(unseen, truth, mass), unseen, way))
    _, unseen, way = min(tried, key=lambda one: one[0])
    return way(logits, truth, mass), unseen


def calibration_error(probabilities: Numbers, truth: NDArray[np.bool_], mass: Numbers) -> float:
    """The expected calibration error: how far probabilities and shares of positives are apart, in ten bins of one width."""
    place = np.minimum((probabilities * _PLACES).astype(np.int64), _PLACES - 1)
    apart = np.bincount(place, mass * (probabilities - truth), minlength=_PLACES)
    return float(np.abs(apart).sum() / mass.sum())


def _rescaled(truth: NDArray[np.bool_], mass: Numbers, rows: NDArray[np.bool_]) -> Numbers:
    """The mass of some labels, with positives as common as among all."""
    positive = rows & truth
    negative = rows & ~truth
    factors = mass[truth].sum() / mass[positive].sum(), mass[~truth].sum() / mass[negative].sum()
    found: Numbers = (mass * np.where(truth, *factors))[rows]
    return found


def _platt(logits: Numbers, truth: NDArray[np.bool_], mass: Numbers) -> Calibration:
    weights, shift = _tempered(truth, mass)
    a, b = slope(logits, truth, weights)
    return Calibration(max(a, 0.0), b + shift)


def _isotonic(logits: Numbers, truth: NDArray[np.bool_], mass: Numbers) -> Calibration:
    """Blocks of one probability become two knots, at their ends. Targets are smoothed as Platt's: none is 0 or 1."""
    weights, shift = _tempered(truth, mass)
    order = np.argsort(logits, kind="stable")
    fitted = isotonic_regression(smoothed(truth, weights)[order], weights=weights[order])
    if len(fitted.blocks) < 3:
        return _platt(logits, truth, mass)
    ends = np.stack([fitted.blocks[:-1], fitted.blocks[1:] - 1], axis=1).ravel()
    knots, first = np.unique(logits[order][ends], return_index=True)
    return Calibration(0.0, 0.0, (knots, expit(logit(fitted.x[ends][first]) + shift)))


def _tempered(truth: NDArray[np.bool_], mass: Numbers) -> tuple[Numbers, float]:
    """Weights in numbers of labels, and what is to be added to logits fitted with them."""
    prevalence = mass[truth].sum() / mass.sum()
    fitted = min(max(prevalence, COMMON), 1 - COMMON)
    sizes = _effective(mass[truth]), _effective(mass[~truth])
    total = sum(sizes)
    weights = np.where(truth, mass / mass[truth].sum() * fitted * total, mass / mass[~truth].sum() * (1 - fitted) * total)
    return weights, float(logit(prevalence) - logit(fitted))


def _effective(mass: Numbers) -> float:
    return float(mass.sum() ** 2 / (mass**2).sum())


def _loss(probabilities: Numbers, truth: NDArray[np.bool_], mass: Numbers) -> float:
    sure = np.clip(np.where(truth, probabilities, 1 - probabilities), _LEAST, 1.0)
    return float((mass * -np.log(sure)).sum())

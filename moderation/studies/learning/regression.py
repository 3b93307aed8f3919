"""Logistic regression that is pulled towards the direction of a rule's own texts. Pure.

The logit of a unit embedding x is (s d + u)·x + b: d is the direction of the texts, s how much it says by itself, and u what
the labels add, with the penalty strength / 2 · |u|². So few labels leave the rule about as good as its texts are, and many
labels override them. Where there are no texts, s is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from moderation.policy.head import logistic

Numbers = NDArray[np.float64]
STRENGTHS: tuple[float, ...] = (np.inf, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)
"""Of the penalty, strongest first; infinite: the texts alone."""
_STEPS = 200


@dataclass(frozen=True)
class Line:
    """A linear score: `weight`·x + `bias`."""

    weight: Numbers
    """[D]"""
    bias: float

    def __call__(self, vectors: Numbers) -> Numbers:
        """Logits [N] of unit embeddings [N, D]."""
        found: Numbers = vectors @ self.weight + self.bias
        return found


def balanced(truth: NDArray[np.bool_], mass: Numbers) -> Numbers:
    """Weights [N] that add up to 1 over both kinds of labels, half of it each; within a kind as `mass` says."""
    found: Numbers = np.where(truth, mass / mass[truth].sum(), mass / mass[~truth].sum()) / 2
    return found


def slope(values: Numbers, truth: NDArray[np.bool_], weights: Numbers) -> tuple[float, float]:
    """Platt's scaling: a and b of the probability 1 / (1 + e^-(a·value + b)), with his smoothed targets (1999).

    Args:
        values: [N].
        truth: [N].
        weights: [N] in numbers of labels: those of a kind add up to as many as it counts for.
    """
    target = smoothed(truth, weights)
    odds = float(np.log(weights[truth].sum() / weights[~truth].sum()))
    middle, spread = float(np.average(values, weights=weights)), float(values.std())
    if not spread > 0:
        return 0.0, odds
    scaled = (values - middle) / spread

    def loss(found: Numbers) -> tuple[float, Numbers]:
        logits = found[0] * scaled + found[1]
        errors = weights * (logistic(logits) - target)
        value = float((weights * (np.logaddexp(0.0, logits) - target * logits)).sum())
        return value, np.array([errors @ scaled, errors.sum()])

    found = minimize(loss, np.array([1.0, odds]), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    a = float(found[0]) / spread
    return a, float(found[1]) - a * middle


def smoothed(truth: NDArray[np.bool_], weights: Numbers) -> Numbers:
    """Platt's targets [N] instead of 0 and 1: the more labels there are of a kind, the nearer to these."""
    positives, negatives = weights[truth].sum(), weights[~truth].sum()
    found: Numbers = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return found


def path(
    vectors: Numbers,
    truth: NDArray[np.bool_],
    weights: Numbers,
    direction: Numbers | None,
    strengths: Sequence[float] = STRENGTHS,
) -> list[Line]:
    """The fit for each strength.

    Args:
        vectors: [N, D].
        truth: [N]; both kinds are there.
        weights: [N] that add up to 1.
        direction: [D] of the texts, of unit length.
        strengths: strongest first.
    """
    prior = np.zeros(vectors.shape[1])
    if direction is not None:
        prior = max(0.0, slope(vectors @ direction, truth, weights * len(truth))[0]) * direction
    middle = weights @ vectors
    centred = vectors - middle
    given = centred @ prior
    signs = np.where(truth, 1.0, -1.0)
    found = []
    start = np.zeros(vectors.shape[1] + 1)
    for strength in strengths:

        def loss(parts: Numbers, strength: float = strength) -> tuple[float, Numbers]:
            own, bias = parts[:-1], parts[-1]
            margins = signs * (given + centred @ own + bias)
            pull = -signs * weights * logistic(-margins)
            value = float((weights * np.logaddexp(0.0, -margins)).sum()) + strength / 2 * float(own @ own)
            return value, np.append(pull @ centred + strength * own, pull.sum())

        if np.isinf(strength):
            start[-1] = _bias(given, signs, weights)
        else:
            options = {"maxiter": _STEPS, "ftol": 1e-10, "gtol": 1e-6}
            start = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
        weight = prior + start[:-1]
        found.append(Line(weight, float(start[-1] - middle @ weight)))
    return found


def _bias(given: Numbers, signs: Numbers, weights: Numbers) -> float:
    def loss(parts: Numbers) -> tuple[float, Numbers]:
        margins = signs * (given + parts[0])
        pull = -signs * weights * logistic(-margins)
        return float((weights * np.logaddexp(0.0, -margins)).sum()), np.array([pull.sum()])

    return float(minimize(loss, np.zeros(1), jac=True, method="BFGS").x[0])

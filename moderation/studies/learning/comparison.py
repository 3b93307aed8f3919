"""Whether a head ranks images better than the rule does now, on labels that neither saw. Pure.

Ranking is the share of pairs of a positive and a negative in which the positive scores higher: the area under the ROC curve
(AUC). Unlike average precision it does not depend on how common positives are, so few labels can tell it. Its interval is
Newcombe's fifth (2006), which holds near 1 too; that of a difference is MOVER's (Zou and Donner 2008), with the correlation of
two rankings of the same labels by DeLong et al. (1988).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from moderation.studies.learning.regression import Numbers
from moderation.studies.tuning.curves import Area, average_precision, curve
from moderation.studies.tuning.samples import Sample

Verdict = Literal["better", "worse", "unclear"]
_Z = float(norm.ppf(0.975))
_NEAR = 1e-9
_SEEN = 0.9
"""Heads in cross-validation learn from nine tenths of the labels. That they differ makes their figures less sure."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The head and the present rule, on the same labels."""

    auc: Measured
    rule_auc: Measured
    gain: Measured
    """of the head's AUC over the rule's"""
    precision: Area
    """average precision of the head"""
    rule_precision: Area

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where the interval of the difference says so, and the average precision does not disagree."""
        if self.gain.low > 0 and self.precision.value >= self.rule_precision.value:
            return "better"
        return "worse" if self.gain.high < 0 else "unclear"


def compare(sample: Sample, head: Numbers, rule: Numbers) -> Comparison:
    """Compare two scores [N] of the labels of a sample, in its order."""
    truth, mass = sample.truth, sample.mass
    of_head, of_rule = placements(head, truth, mass), placements(rule, truth, mass)
    auc, rule_auc = of_head.measured(_SEEN), of_rule.measured()
    shared = _correlation(of_head, of_rule)
    value = auc.value - rule_auc.value

    def reach(up: Measured, down: Measured) -> float:
        a, b = up.high - up.value, down.value - down.low
        return float(np.sqrt(max(0.0, a * a + b * b - 2 * shared * a * b)))

    gain = Measured(value, value - reach(_mirrored(auc), _mirrored(rule_auc)), value + reach(auc, rule_auc))
    own, theirs = (sample.under(scores.astype(np.float32)) for scores in (head, rule))
    return Comparison(auc, rule_auc, gain, average_precision(own, curve(own)), average_precision(theirs, curve(theirs)))


@dataclass(frozen=True)
class Placements:
    """Of each label, the share of the other kind that it is rightly apart from; ties count half."""

    of_positives: Numbers
    of_negatives: Numbers
    positive_mass: Numbers
    negative_mass: Numbers
    """each adds up to 1"""

    @property
    def auc(self) -> float:
        """The area under the ROC curve."""
        return round(float(self.positive_mass @ self.of_positives), 12)  # sums of shares may be a little above 1

    def measured(self, share: float = 1.0) -> Measured:
        """With its interval; labels of unequal mass count as Kish's effective number, and `share` of that."""
        value = self.auc
        sizes = [share / float(mass @ mass) for mass in (self.positive_mass, self.negative_mass)]
        return Measured(value, _end(value, *sizes, lower=True), _end(value, *sizes, lower=False))


def placements(scores: Numbers, truth: NDArray[np.bool_], mass: Numbers) -> Placements:
    """Placements under scores [N]."""
    ranks = rankdata(scores, "dense").astype(np.int64)
    positive, negative = (np.where(kind, mass / mass[kind].sum(), 0.0) for kind in (truth, ~truth))
    below = [np.concatenate([[0.0], np.cumsum(np.bincount(ranks, part)[1:])]) for part in (negative, positive)]
    under = [(part[ranks - 1] + part[ranks]) / 2 for part in below]
    return Placements(under[0][truth], 1 - under[1][~truth], positive[truth], negative[~truth])


def _end(value: float, positives: float, negatives: float, *, lower: bool) -> float:
    """Where the interval ends: the area from which the one that was found is just as far as chance goes."""
    half = (positives + negatives) / 2 - 1

    def apart(area: float) -> float:
        spread = area * (1 - area) * (1 + half * ((1 - area) / (2 - area) + area / (1 + area))) / (positives * negatives)
        return (value - area if lower else area - value) - _Z * float(np.sqrt(spread))

    if value <= 0 if lower else value >= 1:
        return value
    edge = (0.0, value - _NEAR) if lower else (value + _NEAR, 1.0)  # where all is apart, the area itself is a solution too
    return float(brentq(apart, *edge)) if apart(edge[0]) * apart(edge[1]) < 0 else value


def _mirrored(one: Measured) -> Measured:
    return Measured(-one.value, -one.high, -one.low)


def _correlation(one: Placements, other: Placements) -> float:
    """Of two areas on the same labels (DeLong, DeLong and Clarke-Pearson 1988)."""

    def covariance(a: Placements, b: Placements) -> float:
        parts = (
            (a.of_positives, b.of_positives, a.positive_mass),
            (a.of_negatives, b.of_negatives, a.negative_mass),
        )
        return sum(float(((x - m @ x) * (y - m @ y) * m * m).sum()) for x, y, m in parts)

    spread = covariance(one, one) * covariance(other, other)
    return float(np.clip(covariance(one, other) / np.sqrt(spread), 0.0, 1.0)) if spread > 0 else 0.0

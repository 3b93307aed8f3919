"""The precision-recall curve of a sample, with bands, and its area. Pure."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from moderation.measures.intervals import Estimate, Numbers
from moderation.studies.tuning.samples import Sample

RESAMPLES = 500
_SEED = 20261121
_AT_ONCE = 2_000_000
_STEPS = 400
_LEAST = 1e-9
_COARSE = 0.02


@dataclass(frozen=True)
class Curve:
    """Precision and recall at every threshold that the labels can tell apart, the highest first."""

    thresholds: NDArray[np.float32]
    """[K] the distinct scores: images at or above are flagged"""
    last: NDArray[np.int64]
    """[K] index of the last label that is flagged"""
    precision: Estimate
    recall: Estimate


@dataclass(frozen=True, slots=True)
class Area:
    """Average precision, with its 95 % interval."""

    value: float
    low: float
    high: float
    method: Literal["bootstrap", "bands"]
    """where the interval comes from"""


def curve(sample: Sample) -> Curve:
    """The whole curve. Its bands hold at all thresholds together, 95 times in 100."""
    last = ends(sample.scores)
    return Curve(sample.scores[last], last, sample.precision(last), sample.recall(last))


def ends(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Where each run of equal scores ends."""
    return np.flatnonzero(np.append(scores[1:] != scores[:-1], True)).astype(np.int64)


def average_precision(sample: Sample, found: Curve) -> Area:
    """The area under the curve as steps: the sum of precision times the recall gained, as scikit-learn computes it.

    Its interval is the basic one of a bootstrap on the logit scale (Davison and Hinkley 1997), redrawn within each stratum,
    or within positives and negatives where the prevalence is given; always the same resamples. Where one labelled negative
    stands for many images, resamples cannot hold what was never seen, and their interval is far too narrow: what the bands of
    the curve allow is taken then, which is wide.
    """
    value = float(_areas(sample, np.ones((1, len(sample.scores))))[0])
    heaviest = float(sample.mass[~sample.truth].max())
    if heaviest <= _COARSE * sample.prevalence and value < 1:
        resampled = _resampled(sample)
        middle = logit(value)
        low, high = expit(2 * middle - np.quantile(logit(np.clip(resampled, _LEAST, 1 - _LEAST)), (0.975, 0.025)))
        if low < high:
            return Area(value, min(float(low), value), max(float(high), value), "bootstrap")
    low, high = _between_bands(found)
    return Area(value, min(low, value), max(high, value), "bands")


def _resampled(sample: Sample) -> Numbers:
    """Average precisions of bootstrap samples."""
    rng = np.random.default_rng(_SEED)
    rows = [np.flatnonzero(sample.groups == group) for group in np.unique(sample.groups)]
    areas: list[Numbers] = []
    step = max(1, _AT_ONCE // len(sample.scores))
    for start in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - start)
        times = np.zeros((count, len(sample.scores)))
        for one in rows:
            times[:, one] = rng.multinomial(len(one), np.full(len(one), 1 / len(one)), size=count)
        areas.append(_areas(sample, times))
    together = np.concatenate(areas)
    return together[np.isfinite(together)]  # a resample may hold no positive at all


def _between_bands(found: Curve) -> tuple[float, float]:
    """The least and the greatest area that a curve within the bands may have."""
    keep = np.unique(np.linspace(0, len(found.last) - 1, min(len(found.last), _STEPS)).round().astype(np.int64))
    recall = (np.arange(_STEPS) + 0.5) / _STEPS
    possible = (found.recall.low[keep, None] <= recall) & (recall <= found.recall.high[keep, None])
    low = np.where(possible, found.precision.low[keep, None], np.inf).min(axis=0)
    high = np.where(possible, found.precision.high[keep, None], -np.inf).max(axis=0)
    return float(np.where(np.isinf(low), 0.0, low).mean()), float(np.where(np.isinf(high), 1.0, high).mean())


def _areas(sample: Sample, times: Numbers) -> Numbers:
    """[B] average precision where label i is there times[b, i] times."""
    last = ends(sample.scores)
    mass = times * sample.mass
    true = np.cumsum(np.where(sample.truth, mass, 0.0), axis=1)[:, last]
    everything = np.cumsum(mass, axis=1)[:, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(everything > 0, true / everything, 0.0)
        gained = np.diff(true, axis=1, prepend=0.0) / true[:, -1:]
    found: Numbers = (precision * gained).sum(axis=1)
    return found

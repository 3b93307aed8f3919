"""The statistical promise: what is stated of a head holds for it on images without end, in 93 of 100 repetitions and more."""

from collections import Counter

import numpy as np
import pytest
from learning_world import EmbeddingWorld, images_of, labels_of

from moderation.studies.learning.comparison import compare, placements
from moderation.studies.learning.learn import fit
from moderation.studies.tuning.curves import curve

RARE = 0.001
IMAGES = 20_000
WORLDS = {
    "texts know half of it": (EmbeddingWorld(apart=3.0, known=0.5), 60, 240),
    "texts know all of it": (EmbeddingWorld(apart=2.5, known=1.0), 60, 240),
    "few labels": (EmbeddingWorld(apart=3.0, known=0.7), 25, 25),
}


def repeated(world: EmbeddingWorld, positives: int, negatives: int, seeds: range) -> Counter[str]:
    """How often each stated interval holds, and how often a verdict is wrong."""
    held: Counter[str] = Counter()
    all_rng = np.random.default_rng(99)
    everything = np.repeat([True, False], [IMAGES // 4, IMAGES])
    vectors = world.vectors(all_rng, everything).astype(np.float64)
    even = np.ones(len(everything))
    by_texts = vectors @ world.texts
    rule_auc = placements(by_texts, everything, even).auc
    for seed in seeds:
        rng = np.random.default_rng(seed)
        truth = rng.permutation(np.repeat([True, False], [positives, negatives]))
        labelled = world.vectors(rng, truth)
        sample = labels_of(truth, RARE)
        found = fit(images_of(labelled), sample, world.texts)
        told = compare(sample, found.logits, labelled.astype(np.float64) @ world.texts)
        line = curve(sample.under(found.probabilities.astype(np.float32)))
        logits = found.line(vectors)
        auc = placements(logits, everything, even).auc
        held["auc"] += told.auc.low <= auc <= told.auc.high
        held["gain"] += told.gain.low <= auc - rule_auc <= told.gain.high
        scores = np.sort(found.calibration(logits[everything])), np.sort(found.calibration(logits[~everything]))
        true, false = (1 - np.searchsorted(one, line.thresholds, side="left") / len(one) for one in scores)
        with np.errstate(invalid="ignore"):
            precision = np.nan_to_num(RARE * true / (RARE * true + (1 - RARE) * false), nan=1.0)
        held["recall"] += bool(((line.recall.low <= true + 1e-9) & (true <= line.recall.high + 1e-9)).all())
        held["precision"] += bool(((line.precision.low <= precision + 1e-9) & (precision <= line.precision.high + 1e-9)).all())
        held["average precision"] += told.precision.low <= average(scores[0], scores[1]) <= told.precision.high
        held["false verdict"] += (told.verdict == "better" and auc <= rule_auc) or (told.verdict == "worse" and auc >= rule_auc)
        held[told.verdict] += 1
    return held


def average(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Average precision at a prevalence of 0.1 %, of sorted scores."""
    recall = (np.arange(len(positives)) + 1) / len(positives)
    false = 1 - np.searchsorted(negatives, positives[::-1], side="left") / len(negatives)
    return float((RARE * recall / (RARE * recall + (1 - RARE) * false)).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_stated_intervals_hold_at_a_prevalence_of_one_in_a_thousand(name):
    held = repeated(*WORLDS[name], range(100))
    for what in ("auc", "gain", "recall", "precision", "average precision"):
        assert held[what] >= 93, (what, held)
    assert held["false verdict"] <= 3
    if name == "texts know half of it":
        assert held["better"] >= 90  # intervals are no good where they never say anything
    if name == "texts know all of it":
        assert held["better"] <= 3


def test_stated_intervals_hold_in_a_few_repetitions():
    held = repeated(*WORLDS["few labels"], range(8))
    assert min(held[what] for what in ("auc", "gain", "recall", "precision", "average precision")) >= 6, held

"""Learning a head: folds, fits, calibration and comparison, on embeddings whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_world import EmbeddingWorld, images_of, labels_of
from scipy.special import expit, logit

from moderation.errors import SettingsError
from moderation.studies.learning.calibration import calibrated, calibration_error
from moderation.studies.learning.comparison import compare, placements
from moderation.studies.learning.cross_fitting import cross_fit
from moderation.studies.learning.folds import folds, groups
from moderation.studies.learning.learn import fit
from moderation.studies.learning.learning_curve import learning_curve
from moderation.studies.learning.regression import balanced, path, slope

WORLD = EmbeddingWorld(apart=3.0, known=0.7)


def drawn(seed: int, positives: int, negatives: int, world: EmbeddingWorld = WORLD):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat([True, False], [positives, negatives]))
    return truth, world.vectors(rng, truth)


def auc(logits, truth) -> float:
    return placements(logits, truth, np.ones(len(truth))).auc


def test_near_duplicates_are_one_group_by_bytes_or_embedding_and_through_others():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 30))
    vectors[1] = vectors[0] + 0.05 * rng.normal(size=30)
    vectors[2] = vectors[1] + 0.05 * rng.normal(size=30)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    digests = [f"{number}" * 64 for number in (0, 1, 2, 3, 4, 5, 4)]
    found = groups(images_of(vectors.astype(np.float16), digests), vectors)
    assert found[0] == found[1] == found[2]
    assert found[4] == found[6]
    assert len(set(found.tolist())) == 4


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=4, max_size=80))
def test_no_group_stands_on_both_sides_and_every_fold_has_both_kinds_where_it_can(labels):
    group, truth = np.array([g for g, _ in labels]), np.array([t for _, t in labels])
    if truth.all() or not truth.any():
        return
    found = folds(group, truth)
    for one in np.unique(group):
        assert len(np.unique(found[group == one])) == 1
    count = min(10, len(np.unique(group[truth])), len(np.unique(group[~truth])))
    assert found.max() < max(count, 1)
    if count > 1:
        for fold in np.unique(found):
            assert truth[found != fold].any()
            assert not truth[found != fold].all()


def test_a_head_does_not_learn_from_copies_of_what_it_is_tested_with():
    """Labels without any meaning, each image ten times: only a leak could tell them apart."""
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.permutation(np.repeat([True, False], 20)), 10)
    vectors = np.repeat(WORLD.vectors(rng, np.zeros(40, np.bool_)), 10, axis=0)
    found = fit(images_of(vectors), labels_of(truth, 0.5), None)
    assert found.groups == 40
    assert auc(found.logits, truth) < 0.65
    leaking = replace(found.task, fold=np.arange(400) % 10)  # as if the copies were unlike
    assert auc(cross_fit(leaking).logits, truth) > 0.8


def test_few_labels_leave_a_head_near_the_texts_and_many_override_them():
    world = EmbeddingWorld(apart=3.0, known=0.7, dim=200)
    test_truth, test_vectors = drawn(99, 2000, 2000, world)
    by_texts = auc(test_vectors.astype(np.float64) @ world.texts, test_truth)
    reached = {}
    for count in (10, 40, 400):
        truth, vectors = drawn(count, count, count, world)
        for name, direction in (("with", world.texts), ("without", None)):
            found = fit(images_of(vectors), labels_of(truth, 0.5), direction)
            reached[name, count] = auc(found.line(test_vectors.astype(np.float64)), test_truth)
    assert reached["with", 10] > reached["without", 10] + 0.02
    assert reached["with", 10] > by_texts - 0.03
    assert reached["with", 400] > by_texts + 0.03
    assert reached["with", 400] == pytest.approx(reached["without", 400], abs=0.02)


def test_a_stronger_penalty_keeps_the_weight_nearer_to_the_texts():
    truth, vectors = drawn(3, 50, 50)
    lines = path(vectors.astype(np.float64), truth, balanced(truth, np.ones(100)), WORLD.texts)
    away = [np.linalg.norm(line.weight - line.weight @ WORLD.texts * WORLD.texts) for line in lines]
    assert away[0] == pytest.approx(0)
    assert (np.diff(away) > 0).all()


def test_texts_that_point_the_wrong_way_are_left_out():
    truth, vectors = drawn(4, 100, 100)
    (line,) = path(vectors.astype(np.float64), truth, balanced(truth, np.ones(200)), -WORLD.texts, (np.inf,))
    assert np.allclose(line.weight, 0)


@pytest.mark.parametrize("prevalence", [0.5, 0.1, 0.001])
def test_platt_finds_the_logit_that_labels_were_drawn_from(prevalence):
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, 20_000)
    truth = rng.random(20_000) < expit(0.5 * logits + 0.3)
    mass = np.where(truth, prevalence / truth.sum(), (1 - prevalence) / (~truth).sum())
    found, _ = calibrated(logits[:250], truth[:250], mass[:250], np.arange(250) % 5)
    assert found.method == "platt"
    a, b = slope(logits, truth, np.ones(20_000))
    assert (a, b) == (pytest.approx(0.5, abs=0.03), pytest.approx(0.3, abs=0.05))
    shift = logit(mass[:250][truth[:250]].sum() / mass[:250].sum()) - logit(truth[:250].mean())
    assert logit(found(np.array([0.0])))[0] == pytest.approx(0.3 + shift, abs=0.6)


def test_isotonic_calibration_is_taken_where_a_logit_is_bent():
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 3, 4000)
    truth = rng.random(4000) < np.where(logits < 0, 0.05, np.where(logits < 2, 0.4, 0.9))
    mass = np.full(4000, 1 / 4000)
    found, unseen = calibrated(logits, truth, mass, np.arange(4000) % 10)
    assert found.method == "isotonic"
    assert calibration_error(unseen, truth, mass) < 0.03
    places, probabilities = found.knots
    assert (np.diff(places) > 0).all()
    assert (np.diff(probabilities) >= 0).all()
    assert 0 < probabilities[0] < probabilities[-1] < 1


def test_calibration_error_is_what_scores_and_shares_differ_by():
    truth = np.array([True, False, False, False])
    assert calibration_error(np.full(4, 0.25), truth, np.ones(4)) == pytest.approx(0)
    assert calibration_error(np.full(4, 0.75), truth, np.ones(4)) == pytest.approx(0.5)


def test_ranking_is_compared_on_the_same_labels():
    rng = np.random.default_rng(7)
    truth = np.repeat([True, False], 150)
    rule = rng.normal(0, 1, 300) + 1.0 * truth
    sample = labels_of(truth, 0.5)
    better = compare(sample, rule + 0.7 * truth, rule)
    assert better.verdict == "better"
    assert compare(sample, rule, rule + 0.7 * truth).verdict == "worse"
    same = compare(sample, rule, rule)
    assert (same.gain.value, same.verdict) == (0, "unclear")
    assert better.auc.low < better.auc.value < better.auc.high
    assert better.gain.high - better.gain.low < (better.auc.high - better.auc.low) + (
        better.rule_auc.high - better.rule_auc.low
    )


def test_perfect_ranking_still_has_an_interval():
    truth = np.repeat([True, False], 12)
    found = compare(labels_of(truth, 0.5), truth * 1.0, truth * 2.0)
    assert (found.auc.value, found.auc.high) == (1, 1)
    assert 0.7 < found.auc.low < 0.95
    assert found.gain.low < 0 < found.gain.high


def test_area_is_the_share_of_pairs_and_ties_count_half():
    truth = np.array([True, True, False, False, False])
    scores, mass = np.array([3.0, 1.0, 1.0, 0.0, 2.0]), np.array([1.0, 3.0, 1.0, 1.0, 2.0])
    pairs = 0.25 * 1.0 + 0.75 * (0.5 * 0.25 + 0.25)
    assert placements(scores, truth, mass).auc == pytest.approx(pairs)


def test_the_learning_curve_grows_and_reaches_beyond_the_labels():
    truth, vectors = drawn(8, 60, 60)
    found = fit(images_of(vectors), labels_of(truth, 0.5), WORLD.texts)
    curve = learning_curve(found.task, found.strength)
    assert [point.labels for point in curve.points] == [30, 60, 90, 120]
    assert curve.points[0].auc < curve.points[-1].auc
    assert curve.points[-1].auc < curve.expected < 1
    assert curve.gain < 0.1


def test_images_of_several_frames_count_as_their_most_telling_one():
    truth, shown = drawn(9, 60, 60)
    rng = np.random.default_rng(10)
    other = WORLD.vectors(rng, np.zeros(120, np.bool_))
    vectors = np.empty((240, WORLD.dim), np.float16)
    vectors[0::2], vectors[1::2] = other, shown  # what is looked for is in the second frame
    found = fit(images_of(vectors, frames=[2] * 120), labels_of(truth, 0.5), WORLD.texts)
    assert auc(found.logits, truth) > 0.85
    without_texts = fit(images_of(vectors, frames=[2] * 120), labels_of(truth, 0.5), None)
    assert auc(without_texts.logits, truth) > 0.6


def test_labels_of_one_picture_are_refused():
    truth = np.repeat([True, False], 10)
    vectors = WORLD.vectors(np.random.default_rng(0), truth)
    vectors[:10] = vectors[0]
    with pytest.raises(SettingsError, match="all true labels are of one picture and its near-duplicates"):
        fit(images_of(vectors), labels_of(truth, 0.5), None)


def test_the_same_input_gives_the_same_head():
    truth, vectors = drawn(11, 40, 40)
    one, other = (fit(images_of(vectors), labels_of(truth, 0.1), WORLD.texts) for _ in range(2))
    assert np.array_equal(one.line.weight, other.line.weight)
    assert (one.calibration.a, one.calibration.b) == (other.calibration.a, other.calibration.b)

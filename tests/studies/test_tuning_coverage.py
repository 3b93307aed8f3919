"""The statistical promise: intervals hold for thresholds chosen from the same labels, on synthetic scores of known truth."""

import numpy as np
import pytest
from scipy.special import betainc
from scipy.stats import binomtest
from tuned_results import World

from moderation.measures.intervals import Shares, local_level, proportion, ratio
from moderation.studies.tuning.curves import average_precision, curve, ends
from moderation.studies.tuning.samples import as_found, at_prevalence, weighted
from moderation.studies.tuning.thresholds import Choice, choose

REPETITIONS = 100
ENOUGH = 93

OVERLAPPING, SEPARATED, FAR = 1.5, 3.0, 4.0
DESIGNS = [
    # name, world, how the labels are drawn, target precision, target recall, the widest median interval of the precision
    ("random, overlapping", World(OVERLAPPING, 0.5), lambda w, r: w.at_random(r, 1000), 0.9, 0.9, 0.25),
    ("random, separated", World(SEPARATED, 0.5), lambda w, r: w.at_random(r, 1000), 0.95, 0.9, 0.08),
    ("balanced at 0.1 %, overlapping", World(OVERLAPPING, 0.001), lambda w, r: w.balanced(r, 500, 500), 0.5, 0.9, 1.0),
    ("balanced at 0.1 %, separated", World(SEPARATED, 0.001), lambda w, r: w.balanced(r, 300, 4000), 0.5, 0.9, 0.9),
    ("balanced at 0.1 %, far apart", World(FAR, 0.001), lambda w, r: w.balanced(r, 500, 2000), 0.9, 0.95, 1.0),
    ("strata at 0.1 %", World(FAR, 0.001), lambda w, r: w.stratified(r, 200_000, 300, (0.7, 0.8)), 0.8, 0.5, 0.45),
    ("strata at 5 %", World(SEPARATED, 0.05), lambda w, r: w.stratified(r, 100_000, 300, (0.7, 0.8)), 0.9, 0.6, 0.15),
]


@pytest.mark.parametrize("measure", ["precision", "recall"])
@pytest.mark.parametrize(
    ("world", "draw", "precision", "recall", "widest"), [d[1:] for d in DESIGNS], ids=[d[0] for d in DESIGNS]
)
def test_the_interval_holds_for_the_chosen_threshold(world, draw, precision, recall, widest, measure):
    target = precision if measure == "precision" else recall
    truth_of = world.precision if measure == "precision" else world.recall
    covered, sure, widths, chosen = 0, 0, [], 0
    for seed in range(REPETITIONS):
        sample = draw(world, np.random.default_rng(seed))
        found = choose(sample, curve(sample), measure, target, confident=False)
        if not isinstance(found, Choice):
            continue
        chosen += 1
        told = found.point.precision if measure == "precision" else found.point.recall
        covered += told.low <= truth_of(found.point.threshold) <= told.high
        widths.append(told.width)
        # The threshold at which the target is truly met lies in the threshold's own interval.
        low, high = found.low, found.high
        if measure == "precision":
            sure += (low is None or truth_of(low) <= target + 1e-9) and (high is None or truth_of(high) >= target - 1e-9)
        else:
            sure += (low is None or truth_of(low) >= target - 1e-9) and (high is None or truth_of(high) <= target + 1e-9)
    assert chosen >= ENOUGH
    assert covered >= chosen - (REPETITIONS - ENOUGH)
    assert sure >= chosen - (REPETITIONS - ENOUGH)
    if measure == "precision":
        assert np.median(widths) <= widest


def test_a_confident_choice_truly_meets_its_target():
    world = World(SEPARATED, 0.2)
    met = chosen = 0
    for seed in range(REPETITIONS):
        sample = world.at_random(np.random.default_rng(seed), 1000)
        found = choose(sample, curve(sample), "precision", 0.85, confident=True)
        if isinstance(found, Choice):
            chosen += 1
            assert found.point.precision.low >= 0.85
            met += world.precision(found.point.threshold) >= 0.85
    assert chosen >= ENOUGH
    assert met >= chosen - (REPETITIONS - ENOUGH)


def test_the_bands_hold_where_somebody_picks_the_best_point_of_the_curve():
    """The winner's curse at its worst: scores that mean nothing, and the threshold that looks best. Wilson's interval (1927),
    made for a threshold that was fixed before, misses the truth, which is the base rate."""
    world = World(0.0, 0.5)
    covered = naive = 0
    for seed in range(REPETITIONS):
        sample = world.at_random(np.random.default_rng(seed), 400)
        found = curve(sample)
        best = 20 + int(np.argmax(found.precision.value[20:]))
        flagged = int(found.last[best]) + 1
        covered += found.precision.low[best] <= 0.5 <= found.precision.high[best]
        wilson = binomtest(round(found.precision.value[best] * flagged), flagged).proportion_ci(0.95, "wilson")
        naive += wilson.low <= 0.5 <= wilson.high
    assert covered >= ENOUGH
    assert naive < ENOUGH


@pytest.mark.parametrize("labels", [10, 100, 1000])
def test_all_order_statistics_lie_in_their_intervals_together(labels):
    rng = np.random.default_rng(5)
    found = np.sort(rng.random((2000, labels)), axis=1)
    order = np.arange(1, labels + 1)
    place = betainc(order, labels + 1 - order, found)
    inside = (2 * np.minimum(place, 1 - place) >= local_level(labels)).all(axis=1)
    assert 0.93 <= inside.mean() <= 0.97


def test_the_level_falls_with_the_number_of_labels():
    levels = [local_level(count) for count in (1, 2, 7, 40, 999, 1000, 12_345, 100_000, 10**7)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(0.05)
    assert levels[-1] > 0


@pytest.mark.parametrize("count", [0, 1, 7, 19, 20])
def test_a_proportion_has_the_interval_of_clopper_and_pearson(count):
    low, high = proportion(np.array([count / 20]), 20, 0.05)
    told = binomtest(count, 20).proportion_ci(0.95, "exact")
    assert (low[0], high[0]) == pytest.approx((told.low, told.high))


def test_where_all_is_flagged_the_ratio_is_one_proportion():
    """Without anything else in the sample, precision is a proportion, and has its interval."""
    found = ratio([Shares(1.0, 50, np.array([0.8]), np.array([0.2]))], 0.05)
    told = binomtest(40, 50).proportion_ci(0.95, "exact")
    assert (found.value[0], found.low[0], found.high[0]) == pytest.approx((0.8, told.low, told.high))


def test_nothing_flagged_says_nothing():
    found = ratio([Shares(1.0, 50, np.array([0.0]), np.array([0.0]))], 0.05)
    assert np.isnan(found.value[0])
    assert (found.low[0], found.high[0]) == (0.0, 1.0)


def test_precision_at_another_prevalence_is_that_of_the_formula():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], np.float32)
    truth = np.array([1, 1, 0, 1, 1, 0, 0, 0], bool)
    sample = at_prevalence(scores, truth, 0.01)
    last = ends(sample.scores)
    true, false = np.cumsum(truth) / 4, np.cumsum(~truth) / 4
    assert sample.precision(last).value == pytest.approx(0.01 * true / (0.01 * true + 0.99 * false))
    assert sample.recall(last).value == pytest.approx(true)
    assert sample.prevalence == pytest.approx(0.01)
    assert sample.prevalence_interval() is None


def test_weights_tell_the_prevalence():
    scores = np.array([0.9, 0.8, 0.3, 0.2], np.float32)
    sample = weighted(scores, np.array([1, 0, 1, 0], bool), np.array([1.0, 1.0, 49.0, 49.0]), ["a", "a", "b", "b"])
    assert sample.prevalence == pytest.approx(0.5)
    assert sample.precision(np.array([0, 1])).value == pytest.approx([1.0, 0.5])
    assert sample.recall(np.array([1])).value == pytest.approx([0.02])


def test_equal_scores_are_flagged_together():
    sample = as_found(np.array([0.5, 0.5, 0.5, 0.1], np.float32), np.array([1, 0, 0, 1], bool))
    found = curve(sample)
    assert found.thresholds.tolist() == pytest.approx([0.5, 0.1])
    assert found.precision.value == pytest.approx([1 / 3, 1 / 2])


def area_of(sample):
    return average_precision(sample, curve(sample))


def test_average_precision_is_the_sum_of_precision_times_recall_gained():
    scores, truth = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([1, 0, 1, 0], bool)
    area = area_of(as_found(scores, truth))
    assert area.value == pytest.approx(1.0 * 0.5 + (2 / 3) * 0.5)
    assert area.low <= area.value <= area.high
    sample = World(SEPARATED, 0.3).at_random(np.random.default_rng(1), 300)
    assert area_of(sample) == area_of(sample)  # always the same resamples


@pytest.mark.parametrize(
    ("world", "draw", "method"),
    [
        (World(SEPARATED, 0.3), lambda w, r: w.at_random(r, 300), "bootstrap"),
        (World(OVERLAPPING, 0.3), lambda w, r: w.balanced(r, 150, 150), "bootstrap"),
        (World(OVERLAPPING, 0.001), lambda w, r: w.balanced(r, 200, 200), "bands"),
        (World(FAR, 0.001), lambda w, r: w.stratified(r, 50_000, 100, (0.7, 0.8)), "bands"),
    ],
)
def test_the_interval_of_average_precision_holds(world, draw, method):
    thresholds = np.linspace(1e-4, 1 - 1e-4, 2001)[::-1]
    recall, precision = (np.array([of(threshold) for threshold in thresholds]) for of in (world.recall, world.precision))
    truth = (np.diff(recall, prepend=0.0) * precision).sum()
    areas = [area_of(draw(world, np.random.default_rng(seed))) for seed in range(50)]
    assert {area.method for area in areas} == {method}
    assert sum(area.low <= truth <= area.high for area in areas) >= 45


def test_labels_that_scores_separate_without_fault_do_not_make_it_certain():
    truth = np.repeat([True, False], [10, 100])
    area = area_of(as_found(np.linspace(0.9, 0.1, 110, dtype=np.float32), truth))
    assert area.value == 1.0
    assert area.low < 0.8


def test_more_labels_give_narrower_bands():
    world = World(SEPARATED, 0.5)
    wide, narrow = (
        choose(sample, curve(sample), "precision", 0.9, confident=False)
        for sample in (world.at_random(np.random.default_rng(3), count) for count in (200, 5000))
    )
    assert narrow.point.precision.width < 0.5 * wide.point.precision.width
    assert narrow.more_labels == 0
    assert wide.more_labels > 100


def test_counting_all_scores_narrows_strata():
    """A stratum of low scores has no image above a high threshold: its labels alone could not tell."""
    sample = World(FAR, 0.001).stratified(np.random.default_rng(1), 200_000, 300, (0.7, 0.8))
    place = np.array([int((sample.scores >= np.float32(0.85)).sum()) - 1])
    uncounted = type(sample)(sample.scores, sample.truth, sample.mass, sample.groups, sample.basis)
    known, unknown = sample.precision(place), uncounted.precision(place)
    assert known.value == pytest.approx(unknown.value)
    assert known.high - known.low < 0.5 * (unknown.high - unknown.low)

"""Cohen's kappa and Krippendorff's alpha: published examples, slow definitions, and what their intervals promise."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.measures.agreement import cohen, krippendorff

MISSING = -1
# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section C: four observers, twelve units, with missing data.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, MISSING, MISSING, MISSING],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, MISSING, 3],
        [MISSING, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, MISSING],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, MISSING],
    ]
)
# The same, section A: two observers, ten units, binary data.
BINARY = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]])


def counts(answers):
    """Answers [people, images] as counts [images, values]."""
    values = sorted(set(answers.ravel().tolist()) - {MISSING})
    return np.array([[int((column == value).sum()) for value in values] for column in answers.T], np.int64).reshape(
        -1, len(values)
    )


def alpha_by_definition(answers):
    """Pair by pair: 1 - observed / expected disagreement."""
    units = [[a for a in column.tolist() if a != MISSING] for column in answers.T]
    units = [unit for unit in units if len(unit) > 1]
    everything = [a for unit in units for a in unit]
    observed = sum(
        sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units
    ) / len(everything)  # fmt: skip
    expected = sum(a != b for a, b in itertools.permutations(everything, 2)) / (len(everything) * (len(everything) - 1))
    return 1 - observed / expected if expected else np.nan


def kappa_by_definition(first, second):
    agree = np.mean([a == b for a, b in zip(first, second, strict=True)])
    chance = sum(np.mean(np.equal(first, value)) * np.mean(np.equal(second, value)) for value in {*first, *second})
    return (agree - chance) / (1 - chance) if chance < 1 else np.nan


def table(first, second, values=2):
    found = np.zeros((values, values), np.int64)
    for a, b in zip(first, second, strict=True):
        found[a, b] += 1
    return found


def test_alpha_of_the_published_example_with_missing_values():
    found = krippendorff(counts(PUBLISHED))
    assert round(found.value, 3) == 0.743
    assert (found.images, found.answers) == (11, 40)


def test_alpha_of_the_published_example_of_two_people():
    assert round(krippendorff(counts(BINARY)).value, 3) == 0.095


def test_kappa_of_cohens_own_example():
    """Cohen (1960), table 1: proportions of 200 subjects in three categories; kappa is 0.49."""
    found = cohen(np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]]))
    assert round(found.value, 2) == 0.49
    assert found.images == 200


@given(st.lists(st.lists(st.sampled_from([MISSING, 0, 1, 2]), min_size=5, max_size=5), min_size=2, max_size=6))
def test_alpha_is_what_its_definition_says(people):
    answers = np.array(people)
    if not any((column != MISSING).sum() > 1 for column in answers.T):
        return
    found, expected = krippendorff(counts(answers)), alpha_by_definition(answers)
    assert found.value == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_kappa_is_what_its_definition_says(pairs):
    first, second = zip(*pairs, strict=True)
    assert cohen(table(first, second, 3)).value == pytest.approx(kappa_by_definition(first, second), abs=1e-12, nan_ok=True)


def test_one_answer_alone_says_nothing():
    both = np.array([[1, 1], [2, 0], [0, 2]])
    alone = np.array([[1, 0], [0, 1], [1, 0]])
    assert krippendorff(np.concatenate([both, alone])) == krippendorff(both)


@pytest.mark.parametrize("found", [krippendorff(np.array([[2, 0], [3, 0]])), cohen(np.array([[9, 0], [0, 0]]))])
def test_where_everybody_gives_one_answer_nothing_is_known(found):
    assert np.isnan([found.value, found.low, found.high]).all()


@pytest.mark.parametrize("images", [5, 50, 500])
def test_full_agreement_is_not_certain(images):
    alpha = krippendorff(np.array([[2, 0]] * images + [[0, 2]] * images))
    kappa = cohen(np.array([[images, 0], [0, images]]))
    for found in (alpha, kappa):
        assert (found.value, found.high) == (1, 1)
        assert found.low < 1 - 1 / images


def answers(rng, images, people, share, right):
    """People who see the truth with a probability, and otherwise guess as often as it occurs."""
    truth = rng.random(images) < share
    sees = rng.random((people, images)) < right
    return np.where(sees, truth, rng.random((people, images)) < share).astype(int)


@pytest.mark.parametrize(
    ("images", "people", "share", "right"), [(60, 2, 0.5, 0.8), (200, 2, 0.1, 0.9), (200, 3, 0.3, 0.6), (100, 2, 0.2, 0.99)]
)
def test_the_intervals_hold(images, people, share, right):
    """Of people who see the truth independently and guess otherwise, both coefficients are right^2."""
    alphas = kappas = 0
    for seed in range(200):
        said = answers(np.random.default_rng(seed), images, people, share, right)
        alpha, kappa = krippendorff(counts(said)), cohen(table(said[0], said[1]))
        alphas += alpha.low <= right**2 <= alpha.high
        kappas += kappa.low <= right**2 <= kappa.high
    assert alphas >= 186
    assert kappas >= 186

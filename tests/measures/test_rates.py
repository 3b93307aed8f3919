"""Precision and recall from random samples of cells, with intervals that hold."""

import numpy as np
import pytest
from scipy.stats import binomtest

from moderation.measures.rates import NOBODY, Cell, Judged, cells, precision, recall, share

REPETITIONS, ENOUGH = 200, 186
"""93 in 100"""

WORLDS = [
    # name, images allowed, in review, blocked; shares of each that violate; shares of the allowed and blocked that are audited
    ("1 % missed", (50_000, 800, 300), (0.01, 0.6, 0.95), (0.01, 0.1)),
    ("0.1 % missed", (100_000, 700, 300), (0.001, 0.6, 0.95), (0.01, 0.1)),
    ("0.1 % missed, a small audit", (1_000_000, 3000, 1000), (0.001, 0.4, 0.99), (0.001, 0.02)),
    ("0.5 % missed, few flagged", (20_000, 60, 40), (0.005, 0.5, 0.9), (0.05, 0.5)),
    ("nearly nothing missed", (50_000, 500, 500), (0.0001, 0.9, 0.99), (0.02, 0.05)),
    ("an imprecise rule", (100_000, 5000, 100), (0.002, 0.02, 0.3), (0.01, 0.5)),
]


@pytest.mark.parametrize(("sizes", "violating", "audits"), [world[1:] for world in WORLDS], ids=[world[0] for world in WORLDS])
def test_the_intervals_hold_for_rare_events(sizes, violating, audits):
    """The truth is the probability by which images come to violate, of which these images are themselves a sample."""
    (allowed, review, blocked), (missed, in_review, in_blocks) = sizes, violating
    true_precision = (review * in_review + blocked * in_blocks) / (review + blocked)
    found = review * in_review + blocked * in_blocks
    true_recall = found / (found + allowed * missed)
    precisions = recalls = 0
    for seed in range(REPETITIONS):
        rng = np.random.default_rng(seed)
        seen_allowed, seen_blocked = (rng.binomial(n, p) for n, p in zip((allowed, blocked), audits, strict=True))
        flagged = [
            Cell(review, Judged(review, rng.binomial(review, in_review))),
            *cells(blocked, NOBODY, {1 / audits[1]: Judged(seen_blocked, rng.binomial(seen_blocked, in_blocks))}),
        ]
        rest = cells(allowed, NOBODY, {1 / audits[0]: Judged(seen_allowed, rng.binomial(seen_allowed, missed))})
        of_flagged, of_all = precision(flagged), recall(flagged, rest)
        precisions += of_flagged.low <= true_precision <= of_flagged.high
        recalls += of_all.low <= true_recall <= of_all.high
    assert precisions >= ENOUGH
    assert recalls >= ENOUGH


def test_a_share_has_the_interval_of_clopper_and_pearson():
    found = share(3, 40)
    exact = binomtest(3, 40).proportion_ci(0.95, "exact")
    assert (found.value, found.low, found.high) == pytest.approx((3 / 40, exact.low, exact.high))
    same = precision([Cell(40, Judged(40, 3))])
    assert (same.value, same.low, same.high) == pytest.approx((3 / 40, exact.low, exact.high))
    assert (share(0, 0).value, share(0, 0).low, share(0, 0).high) == (None, 0, 1)


def test_audited_images_stand_for_those_that_nobody_looked_at():
    """1,000 blocked images: 20 reached people in other ways, 10 of them fine; of the others an audit saw 49, all right."""
    found = cells(1000, Judged(20, 10), {20.0: Judged(49, 49)})
    assert [(cell.images, cell.judged) for cell in found] == [(20, Judged(20, 10)), (980, Judged(49, 49))]
    assert precision(found).value == pytest.approx((10 + 980) / 1000)


def test_audits_with_different_shares_count_by_their_weights():
    found = cells(1000, NOBODY, {100.0: Judged(5, 5), 10.0: Judged(50, 0)})
    assert [cell.images for cell in found] == [500, 500]
    assert precision(found).value == pytest.approx(0.5)


def test_what_nobody_looked_at_is_named():
    flagged = [Cell(10, Judged(10, 8)), *cells(90, NOBODY, {})]
    assert (precision(flagged).value, precision(flagged).unknown) == (0.8, 90)
    assert recall(flagged, cells(1000, NOBODY, {})).value is None
    assert recall(flagged, cells(1000, Judged(3, 1), {})).unknown == 1087
    assert precision(cells(90, NOBODY, {})).value is None
    assert recall([Cell(10, Judged(10, 8))], []).value == 1


def test_an_audit_that_finds_nothing_is_not_certain():
    found = recall([Cell(100, Judged(100, 80))], cells(10_000, NOBODY, {100.0: Judged(100, 0)}))
    assert (found.value, found.high) == (1, 1)
    assert found.low < 0.3

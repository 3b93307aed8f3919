"""From scores to actions: thresholds, precedence, near misses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import make_policy

from moderation.policy.decision import ACTIONS, Thresholds, decide


def decided(scores, *rules, near=0.05):
    """Decisions for scores [N, R] under these rules."""
    policy = make_policy(*rules)
    return decide(np.atleast_2d(np.array(scores, np.float32)), Thresholds.of(policy.active_rules, near))


def actions(found):
    return [ACTIONS[i] for i in found.action]


def one(score, **rule):
    return decided([[score]], rule)


BOTH = {"review": 0.6, "block": 0.9}


@pytest.mark.parametrize(
    ("score", "expected"), [(0, "allow"), (0.5999, "allow"), (0.6, "review"), (0.8999, "review"), (0.9, "block"), (1, "block")]
)
def test_a_score_acts_at_its_threshold_or_above(score, expected):
    assert actions(one(score, **BOTH)) == [expected]


@given(st.floats(0, 1, width=32))
def test_a_threshold_is_compared_as_it_is_stored(value):
    """0.1 is no float32; the stored score that looks like it must act all the same."""
    threshold = float(value) + 1e-9 if value < 1 else 1.0
    assert actions(one(np.float32(threshold), review=threshold)) == ["review"]
    below = np.nextafter(np.float32(threshold), np.float32(-2))
    assert actions(one(below, review=threshold)) == ["allow"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"review": None, "block": 0.5}, ["allow", "block", "block"]),
        ({"review": 0.5}, ["allow", "review", "review"]),
        ({"review": 0.5, "block": 0.5}, ["allow", "block", "block"]),
        ({"review": -1, "block": 1, "score": "similarity"}, ["review", "review", "block"]),
    ],
    ids=["block only", "review only", "both at once", "extremes"],
)
def test_rules_may_have_one_threshold_or_two_equal_ones(rule, expected):
    assert actions(decided([[0.4], [0.6], [1.0]], rule)) == expected


def test_the_strongest_action_wins():
    rules = [{"review": 0.5}, {"review": 0.5, "block": 0.9}, {"review": None, "block": 0.8}]
    found = decided([[0.4, 0.4, 0.4], [0.9, 0.4, 0.4], [0.9, 0.6, 0.4], [0.9, 0.6, 0.8]], *rules)
    assert actions(found) == ["allow", "review", "review", "block"]
    assert found.flagged.tolist() == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]
    assert found.rule_action.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 2]]


def test_shadow_rules_are_shown_and_never_act():
    found = decided([[0.95, 0.1], [0.95, 0.6]], {**BOTH, "mode": "shadow", "severity": "critical"}, BOTH)
    assert actions(found) == ["allow", "review"]
    assert found.shadow.tolist() == [[True, False], [True, False]]
    assert found.flagged.tolist() == [[False, False], [False, True]]
    assert found.rule_action[:, 0].tolist() == [2, 2]
    assert found.top_rule.tolist() == [1, 1]
    assert not found.near[0], "near a shadow rule's threshold"


def test_a_policy_of_shadow_rules_only_allows_everything():
    found = decided([[0.99, 0.9], [0.1, 0.1]], {**BOTH, "mode": "shadow"}, {**BOTH, "mode": "shadow"})
    assert actions(found) == ["allow", "allow"]
    assert found.top_rule.tolist() == [-1, -1]
    assert np.isnan(found.top_threshold).all()
    assert not found.near.any()
    assert found.shadow.any(axis=1).tolist() == [True, False]


# --- the top rule ----------------------------------------------------------------------------------------------------------


def top(scores, *rules):
    found = decided([scores], *rules)
    return int(found.top_rule[0]), pytest.approx(float(found.top_threshold[0]))


def test_the_top_rule_has_the_strongest_action_before_all_else():
    weak = {"review": 0.1, "severity": "critical"}
    assert top([1.0, 0.9], weak, {"review": 0.5, "block": 0.9, "severity": "low"}) == (1, 0.9)


def test_of_equal_actions_the_rule_with_the_highest_severity_is_on_top():
    severities = ["high", "low", "critical", "medium"]
    assert top([0.99, 0.99, 0.51, 0.99], *({"review": 0.5, "severity": s} for s in severities)) == (2, 0.5)


def test_of_equal_severities_the_rule_with_the_largest_margin_is_on_top():
    assert top([0.9, 0.7, 0.8], {"review": 0.8}, {"review": 0.2}, {"review": 0.5}) == (1, 0.2)
    assert top([0.95, 0.99], {"review": 0.1, "block": 0.94}, {"review": 0.1, "block": 0.97}) == (1, 0.97)


def test_of_equal_margins_the_first_rule_is_on_top():
    assert top([0.7, 0.7], {"review": 0.5}, {"review": 0.5}) == (0, 0.5)


def test_of_an_allowed_image_it_is_the_rule_that_came_closest_whatever_its_severity():
    assert top([0.1, 0.4, 0.3], {"review": 0.5, "severity": "critical"}, {"review": 0.9}, {"review": 0.4}) == (2, 0.4)
    assert top([0.85, 0.1], {"review": None, "block": 0.9}, {"review": 0.5}) == (0, 0.9)
    assert top([-0.9, -0.1], {"score": "similarity", "review": 0.9}, {"score": "similarity", "review": 1.0}) == (1, 1.0)


def test_shadow_rules_are_never_on_top():
    assert top([0.99, 0.1], {"review": 0.1, "mode": "shadow"}, {"review": 0.9}) == (1, 0.9)


# --- near ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.5, False), (0.56, True), (0.6, True), (0.64, True), (0.7, False), (0.86, True), (0.94, True), (0.96, False)],
)
def test_near_is_either_side_of_either_threshold(score, expected):
    assert one(score, **BOTH).near.tolist() == [expected]


def test_a_near_margin_of_zero_means_exactly_at_the_threshold():
    policy = make_policy({"review": 0.25})
    scores = np.array([[0.25], [0.25000003], [0.2]], np.float32)
    assert decide(scores, Thresholds.of(policy.active_rules, 0.0)).near.tolist() == [True, False, False]


def test_any_live_rule_makes_an_image_near():
    assert decided([[0.1, 0.62], [0.1, 0.1]], BOTH, BOTH).near.tolist() == [True, False]


# --- laws ------------------------------------------------------------------------------------------------------------------

unit_score = st.floats(0, 1, width=32)
modes = st.sampled_from(["live", "shadow", "off"])
severities = st.sampled_from(["low", "medium", "high", "critical"])


@st.composite
def rule(draw, mode=modes):
    review, block = sorted([draw(unit_score), draw(unit_score)])
    which = draw(st.sampled_from(["both", "review", "block"]))
    thresholds = {"review": review if which != "block" else None, "block": block if which != "review" else None}
    return {**thresholds, "severity": draw(severities), "mode": draw(mode)}


rules = st.lists(rule(), max_size=4).map(lambda drawn: [{"review": 0.5, "mode": "live"}, *drawn])
batch = st.lists(st.lists(unit_score, min_size=5, max_size=5), min_size=1, max_size=5)


def scored(drawn, rows):
    active = make_policy(*drawn).active_rules
    return np.array(rows, np.float32)[:, : len(active)], active


@settings(max_examples=100, deadline=None)
@given(drawn=rules, rows=batch)
def test_the_action_is_the_strongest_live_one_and_the_top_rule_gave_it(drawn, rows):
    scores, active = scored(drawn, rows)
    found = decide(scores, Thresholds.of(active, 0.05))
    live = [i for i, r in enumerate(active) if r.mode == "live"]
    for n in range(len(scores)):
        # One rule at a time, in plain Python.
        each = [
            2
            if r.block is not None and scores[n, i] >= np.float32(r.block)
            else 1
            if r.review is not None and scores[n, i] >= np.float32(r.review)
            else 0
            for i, r in enumerate(active)
        ]
        assert found.rule_action[n].tolist() == each
        assert found.action[n] == max(each[i] for i in live)
        assert found.flagged[n].tolist() == [i in live and each[i] > 0 for i in range(len(active))]
        assert found.shadow[n].tolist() == [i not in live and each[i] > 0 for i in range(len(active))]
        assert found.top_rule[n] in live
        assert each[found.top_rule[n]] == found.action[n]
        assert (scores[n, found.top_rule[n]] >= found.top_threshold[n]) == (found.action[n] > 0)


@settings(max_examples=100, deadline=None)
@given(drawn=rules, rows=batch, data=st.data())
def test_raising_a_threshold_never_raises_an_action(drawn, rows, data):
    scores, active = scored(drawn, rows)
    at = data.draw(st.integers(0, len(active) - 1))
    raised = active[at].model_copy(
        update={
            name: None if old is None else data.draw(st.floats(old, 1))
            for name, old in (("review", active[at].review), ("block", active[at].block))
        }
    )
    before = decide(scores, Thresholds.of(active, 0.05))
    after = decide(scores, Thresholds.of((*active[:at], raised, *active[at + 1 :]), 0.05))
    assert (after.action <= before.action).all()
    assert (after.rule_action <= before.rule_action).all()


@settings(max_examples=100, deadline=None)
@given(drawn=rules, rows=batch, data=st.data())
def test_raising_a_score_never_lowers_an_action(drawn, rows, data):
    scores, active = scored(drawn, rows)
    higher = np.maximum(scores, data.draw(unit_score))
    assert (decide(higher, Thresholds.of(active, 0.05)).action >= decide(scores, Thresholds.of(active, 0.05)).action).all()


@settings(max_examples=100, deadline=None)
@given(drawn=rules, rows=batch)
def test_shadow_and_resting_rules_change_nothing_but_shadow_flags(drawn, rows):
    scores, active = scored(drawn, rows)
    live = [i for i, r in enumerate(active) if r.mode == "live"]
    with_all = decide(scores, Thresholds.of(active, 0.05))
    alone = decide(scores[:, live], Thresholds.of(tuple(active[i] for i in live), 0.05))
    assert with_all.action.tolist() == alone.action.tolist()
    assert with_all.near.tolist() == alone.near.tolist()
    assert with_all.top_threshold.tolist() == alone.top_threshold.tolist()
    assert [live.index(i) for i in with_all.top_rule] == alone.top_rule.tolist()


@settings(max_examples=50, deadline=None)
@given(drawn=rules, rows=batch)
def test_an_image_is_decided_by_its_own_scores_alone(drawn, rows):
    scores, active = scored(drawn, rows)
    together = decide(scores, Thresholds.of(active, 0.05))
    for n in range(len(scores)):
        alone = decide(scores[n : n + 1], Thresholds.of(active, 0.05))
        for name in ("action", "top_rule", "top_threshold", "near"):
            assert getattr(alone, name)[0] == getattr(together, name)[n]


def test_an_empty_batch_has_no_decisions():
    found = decide(np.empty((0, 1), np.float32), Thresholds.of(make_policy({}).active_rules, 0.05))
    assert [len(found.action), len(found.top_rule), len(found.near)] == [0, 0, 0]

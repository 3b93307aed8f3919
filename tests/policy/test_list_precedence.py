"""What becomes of an image that rules and hash lists speak of."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.lists.hash_list import HashKind
from moderation.policy.precedence import Precedence
from moderation.policy.schema import Action, ListedImages, Mode, Severity

ALLOW, REVIEW, BLOCK = Action.ALLOW, Action.REVIEW, Action.BLOCK
ACTIONS, SEVERITIES = list(Action), list(Severity)
Rule = tuple[str, Action, Severity]
Found = tuple[Action, str | None, tuple[str, ...]]


def a_list(
    name: str,
    action: Action,
    severity: Severity = Severity.HIGH,
    mode: Mode = Mode.LIVE,
    kind: HashKind = HashKind.PDQ,
) -> ListedImages:
    return ListedImages(id=name, file="list.txt", hash=kind, action=action, severity=severity, mode=mode)


def decide(rules: list[Rule], lists: list[ListedImages], matched: list[bool] | None = None) -> Found:
    """The action, the list that decided, and the rules that a list overrode."""
    asked = np.array([[ACTIONS.index(action) for _, action, _ in rules]], np.int8)
    severity = np.array([float(SEVERITIES.index(severity)) for _, _, severity in rules])
    on = np.array([matched or [True] * len(lists)], np.bool_).reshape(1, len(lists))
    found = Precedence(lists).decide(asked.reshape(1, len(rules)), severity, on)
    by = int(found.by_list[0])
    overridden = tuple(rule for (rule, _, _), over in zip(rules, found.overridden[0], strict=True) if over)
    return ACTIONS[found.action[0]], lists[by].id if by >= 0 else None, overridden


def unscored(action: Action, lists: list[ListedImages]) -> tuple[Action, str | None]:
    found = Precedence(lists).decide_unscored(np.array([ACTIONS.index(action)], np.int8), np.ones((1, len(lists)), np.bool_))
    by = int(found.by_list[0])
    return ACTIONS[found.action[0]], lists[by].id if by >= 0 else None


def test_a_list_that_blocks_decides_over_rules_and_over_lists_that_allow() -> None:
    rules = [("r", BLOCK, Severity.CRITICAL)]
    lists = [a_list("good", ALLOW, Severity.CRITICAL), a_list("bad", BLOCK, Severity.LOW)]
    assert decide(rules, lists) == (BLOCK, "bad", ())
    assert decide([], lists) == (BLOCK, "bad", ())


@pytest.mark.parametrize(("rule", "known"), list(itertools.product(Severity, Severity)))
@pytest.mark.parametrize("action", [REVIEW, BLOCK])
def test_a_list_that_allows_overrides_rules_of_its_severity_and_below(rule: Severity, known: Severity, action: Action) -> None:
    found = decide([("r", action, rule)], [a_list("good", ALLOW, known)])
    over = SEVERITIES.index(rule) <= SEVERITIES.index(known)
    assert found == ((ALLOW, "good", ("r",)) if over else (action, None, ()))


def test_a_rule_above_the_list_still_acts_beside_one_that_is_overridden() -> None:
    rules = [("low", BLOCK, Severity.LOW), ("top", REVIEW, Severity.CRITICAL)]
    assert decide(rules, [a_list("good", ALLOW)]) == (REVIEW, None, ("low",))


def test_a_list_that_asks_for_review_is_weaker_than_a_block_and_no_list_overrides_it() -> None:
    seen = a_list("seen", REVIEW, Severity.LOW)
    assert decide([], [seen]) == (REVIEW, "seen", ())
    assert decide([], [a_list("good", ALLOW, Severity.CRITICAL), seen]) == (REVIEW, "seen", ())
    assert decide([("r", BLOCK, Severity.LOW)], [seen]) == (BLOCK, None, ())
    assert decide([("r", REVIEW, Severity.LOW)], [seen]) == (REVIEW, None, ())


@pytest.mark.parametrize("action", list(Action))
def test_lists_in_shadow_do_not_act_and_show_what_they_would_do(action: Action) -> None:
    rules = [("r", REVIEW, Severity.LOW)]
    shadow = a_list("new", action, Severity.CRITICAL, Mode.SHADOW)
    assert decide(rules, [shadow]) == decide(rules, []) == (REVIEW, None, ())
    found = Precedence([shadow]).decide(np.zeros((1, 0), np.int8), np.zeros(0), np.ones((1, 1), np.bool_))
    assert (bool(found.shadow[0, 0]), bool(found.acting[0, 0])) == (action is not ALLOW, False)


def test_of_lists_that_block_the_worst_is_named_and_of_equal_ones_the_first() -> None:
    lists = [a_list("a", BLOCK, Severity.LOW), a_list("b", BLOCK), a_list("c", BLOCK)]
    assert decide([], lists)[1] == "b"


@pytest.mark.parametrize("own", list(Action))
def test_an_image_that_cannot_be_scored_is_blocked_by_a_list_and_allowed_by_its_very_bytes_only(own: Action) -> None:
    assert unscored(own, [a_list("bad", BLOCK, Severity.LOW), a_list("good", ALLOW, kind=HashKind.SHA256)]) == (BLOCK, "bad")
    over = (ALLOW, None if own is ALLOW else "good")
    assert unscored(own, [a_list("good", ALLOW, Severity.LOW, kind=HashKind.SHA256)]) == over
    assert unscored(own, [a_list("good", ALLOW, kind=HashKind.MD5)]) == (own, None)
    assert unscored(own, [a_list("new", BLOCK, mode=Mode.SHADOW)]) == (own, None)
    seen = [a_list("seen", REVIEW, kind=HashKind.MD5), a_list("good", ALLOW, kind=HashKind.SHA256)]
    assert unscored(own, seen) == (REVIEW, "seen")  # the known bytes override `unreadable`; no list is overridden
    assert unscored(own, seen[:1]) == {ALLOW: (REVIEW, "seen"), REVIEW: (REVIEW, None), BLOCK: (BLOCK, None)}[own]


def one_by_one(rules: list[Rule], on: list[ListedImages]) -> Found:
    """The stated precedence, read out sentence by sentence for one image."""
    live = [one for one in on if one.mode is Mode.LIVE]

    def worst(action: Action) -> ListedImages | None:
        those = [one for one in live if one.action is action]
        return max(those, key=lambda one: SEVERITIES.index(one.severity), default=None)

    if (blocking := worst(BLOCK)) is not None:
        return BLOCK, blocking.id, ()
    allowing, reviewing = worst(ALLOW), worst(REVIEW)
    left, over = [], []
    for rule in rules:
        beaten = allowing is not None and SEVERITIES.index(rule[2]) <= SEVERITIES.index(allowing.severity)
        if rule[1] is not ALLOW:
            (over if beaten else left).append(rule)
    names = tuple(name for name, _, _ in over)
    strongest = max((action for _, action, _ in left), key=ACTIONS.index, default=ALLOW)
    if strongest is ALLOW and reviewing is not None:
        return REVIEW, reviewing.id, names
    if strongest is ALLOW and over and allowing is not None:
        return ALLOW, allowing.id, names
    return strongest, None, names


_RULES = st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(SEVERITIES)), max_size=4)
_LISTS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.sampled_from(SEVERITIES), st.sampled_from([Mode.LIVE, Mode.SHADOW]), st.booleans()),
    max_size=5,
)


@given(_RULES, _LISTS)
def test_whole_batches_are_decided_as_single_images(rules: list, lists: list) -> None:  # type: ignore[type-arg]
    named = [(f"r{n}", action, severity) for n, (action, severity) in enumerate(rules)]
    known = [a_list(f"l{n}", action, severity, mode) for n, (action, severity, mode, _) in enumerate(lists)]
    matched = [on for _, _, _, on in lists]
    on = [one for one, hit in zip(known, matched, strict=True) if hit]
    assert decide(named, known, matched) == one_by_one(named, on)

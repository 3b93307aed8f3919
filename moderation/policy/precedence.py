"""What becomes of an image that rules and lists speak of.

1. A live list that blocks decides over everything.
2. A live list that allows overrides the rules of its severity and below. It overrides no other list.
3. Of what remains, rules and lists that ask for review, the strongest action counts.

Lists in shadow, like rules in shadow, are shown and do not act.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from moderation.policy.schema import Action, ListedImages, Mode, Severity

_ACTIONS, _SEVERITIES = tuple(Action), tuple(Severity)


@dataclass(frozen=True)
class ActingRule:
    """A live rule that asks for review or block."""

    id: str
    action: Action
    severity: Severity


@dataclass(frozen=True)
class Outcome:
    """The decision and whose it is."""

    action: Action
    by_list: str | None
    """the list that decided; None where rules did, or nothing acts"""
    overridden: tuple[str, ...]
    """rules that would have acted but for the list"""


def decide(rules: Sequence[ActingRule], matched: Sequence[ListedImages]) -> Outcome:
    """The decision on one image.

    Args:
        rules: the live rules that act on it, in file order.
        matched: the lists with an entry that it matches, of any mode, in file order.
    """
    live = [one for one in matched if one.mode is Mode.LIVE]
    blocking = _worst([one for one in live if one.action is Action.BLOCK])
    if blocking is not None:
        return Outcome(Action.BLOCK, blocking.id, ())
    allowing = _worst([one for one in live if one.action is Action.ALLOW])
    reviewing = _worst([one for one in live if one.action is Action.REVIEW])
    over = [rule for rule in rules if allowing is not None and _rank(rule.severity) <= _rank(allowing.severity)]
    left = [rule for rule in rules if rule not in over]
    action = max((rule.action for rule in left), key=_ACTIONS.index, default=Action.ALLOW)
    overridden = tuple(rule.id for rule in over)
    if reviewing is not None and action is not Action.BLOCK:
        # A rule that asks for the same keeps the decision, as without the list.
        return Outcome(Action.REVIEW, None if action is Action.REVIEW else reviewing.id, overridden)
    if over and action is Action.ALLOW and allowing is not None:
        return Outcome(Action.ALLOW, allowing.id, overridden)
    return Outcome(action, None, overridden)


def _worst(lists: list[ListedImages]) -> ListedImages | None:
    """The first of the highest severity."""
    return max(lists, key=lambda one: _rank(one.severity), default=None)


def _rank(severity: Severity) -> int:
    return _SEVERITIES.index(severity)

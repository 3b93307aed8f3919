"""What becomes of images that rules and hash lists speak of.

1. A live list that blocks decides over everything.
2. A live list that allows overrides the rules of its severity and below. It overrides no other list.
3. Of what remains, rules and lists that ask for review, the strongest action counts.

An image that cannot be scored has no rules: the policy's `unreadable` or `unsupported` stands in their place. Only a list of
SHA-256 hashes that allows overrides it, since then the very bytes are known.

Lists in shadow, like rules in shadow, are shown and do not act.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.lists.hash_list import HashKind
from moderation.policy.schema import Action, ListedImages, Mode, Severity

_ACTIONS, _SEVERITIES = tuple(Action), tuple(Severity)
_ALLOW, _REVIEW, _BLOCK = range(3)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What L lists make of N images under R rules."""

    action: NDArray[np.int8]
    """[N] the decision; index into the actions, weakest first"""
    by_list: NDArray[np.int64]
    """[N] index of the list that decided; -1 where rules did, or nothing acts"""
    overridden: NDArray[np.bool_]
    """[N, R] rules that would act but for a list that allows"""
    acting: NDArray[np.bool_]
    """[N, L] live lists that ask for review or block"""
    shadow: NDArray[np.bool_]
    """[N, L] shadow lists that would"""


class Precedence:
    """The lists of a policy, as arrays."""

    def __init__(self, lists: Sequence[ListedImages]) -> None:
        self._action = np.array([_ACTIONS.index(one.action) for one in lists], np.int8)
        self._severity = np.array([_SEVERITIES.index(one.severity) for one in lists], np.int64)
        self._live = np.array([one.mode is Mode.LIVE for one in lists], np.bool_)
        self._of_bytes = np.array([one.hash is HashKind.SHA256 for one in lists], np.bool_)

    def decide(self, rule_action: NDArray[np.int8], severity: NDArray[np.floating], matched: NDArray[np.bool_]) -> Outcome:
        """The decisions on images with scores.

        Args:
            rule_action: [N, R] what each live rule asks for; 0 of others.
            severity: [R] 0 for the mildest.
            matched: [N, L] the lists, of any mode, that each image is on.
        """
        allowing, reviewing, blocking = (self._worst(matched, action) for action in (_ALLOW, _REVIEW, _BLOCK))
        reach = np.where((allowing >= 0) & (blocking < 0), np.append(self._severity, -1)[allowing], -1)
        overridden = (rule_action > _ALLOW) & (severity[None, :] <= reach[:, None])
        left = np.where(overridden, _ALLOW, rule_action).max(axis=1, initial=_ALLOW)
        over = np.any(overridden, axis=1)
        return self._outcome(left, over, overridden, (allowing, reviewing, blocking), matched)

    def decide_unscored(self, action: NDArray[np.int8], matched: NDArray[np.bool_]) -> Outcome:
        """The decisions on images without scores. `action`: [N] what the policy says of them."""
        allowing = self._worst(matched & self._of_bytes, _ALLOW)
        reviewing, blocking = (self._worst(matched, action) for action in (_REVIEW, _BLOCK))
        over = (allowing >= 0) & (action > _ALLOW)
        none = np.zeros((len(action), 0), np.bool_)
        return self._outcome(np.where(over, _ALLOW, action), over, none, (allowing, reviewing, blocking), matched)

    def _outcome(
        self,
        left: NDArray[np.int8],
        over: NDArray[np.bool_],
        overridden: NDArray[np.bool_],
        lists: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        matched: NDArray[np.bool_],
    ) -> Outcome:
        """From what remains, [N], and whether a list overrode anything, [N]."""
        allowing, reviewing, blocking = lists
        # A rule that asks for review as well keeps the decision, as without the list.
        reviews = (reviewing >= 0) & (left < _REVIEW)
        by_list = np.where(reviews, reviewing, np.where(over & (left == _ALLOW), allowing, -1))
        asks = matched & (self._action > _ALLOW)
        return Outcome(
            action=np.where(blocking >= 0, _BLOCK, np.where(reviews, _REVIEW, left)).astype(np.int8),
            by_list=np.where(blocking >= 0, blocking, by_list),
            overridden=overridden,
            acting=asks & self._live,
            shadow=asks & ~self._live,
        )

    def _worst(self, matched: NDArray[np.bool_], action: int) -> NDArray[np.int64]:
        """[N] of the live lists with an action the first of the highest severity; -1 if there is none."""
        rank = np.where(matched & self._live & (self._action == action), self._severity, -1)
        if not rank.shape[1]:
            return np.full(len(matched), -1, np.int64)
        first = rank.argmax(axis=1)
        return np.where(rank[np.arange(len(rank)), first] >= 0, first, -1).astype(np.int64)

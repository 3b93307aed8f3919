"""The hash lists of a policy, ready to be asked: which of them images are on, and what that makes of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moderation.lists.hash_list import HashKind
from moderation.lists.lookup import ImageHashes, Lookup, Matches
from moderation.lists.matching import MatchSettings
from moderation.policy.precedence import Outcome, Precedence
from moderation.policy.schema import ListedImages, Policy


@dataclass(frozen=True, eq=False)
class Listed:
    """N images under L lists: what they match, and what the lists make of them."""

    lists: tuple[ListedImages, ...]
    matches: Matches
    outcome: Outcome

    @property
    def restricted(self) -> NDArray[np.bool_]:
        """[N] of which images nothing may be shown."""
        return restricted(self.lists, self.matches, len(self.outcome.action))


@dataclass(frozen=True)
class KnownImages:
    """The lists of a policy that are matched: live and shadow ones, in file order."""

    policy: Policy

    def __len__(self) -> int:
        return len(self.lists)

    @cached_property
    def lists(self) -> tuple[ListedImages, ...]:
        """Their settings."""
        return self.policy.active_lists

    @cached_property
    def precedence(self) -> Precedence:
        """What overrides what."""
        return Precedence(self.lists)

    @cached_property
    def lookup(self) -> Lookup:
        """What finds their matches."""
        content = self.policy.assets.lists
        return Lookup([(match_settings(one), content[one.id]) for one in self.lists])

    @cached_property
    def need_md5(self) -> bool:
        """Whether the MD5 of images is needed."""
        return any(one.hash is HashKind.MD5 for one in self.lists)

    def match(self, images: ImageHashes) -> Matches:
        """The lists that images are on."""
        return self.lookup.match(images)

    def restricted(self, images: ImageHashes) -> NDArray[np.bool_]:
        """[N] of which images nothing may be shown, since they are on a restricted list; it may be in shadow."""
        if not any(one.restricted for one in self.lists):
            return np.zeros(len(images.sha256), np.bool_)
        return restricted(self.lists, self.match(images), len(images.sha256))

    def judge(self, matches: Matches, rule_action: NDArray[np.int8], severity: NDArray[np.floating]) -> Listed:
        """What the lists make of N images with scores. The other arguments are as in `Precedence.decide`."""
        matched = matches.matrix(len(rule_action), len(self.lists))
        return Listed(self.lists, matches, self.precedence.decide(rule_action, severity, matched))

    def judge_unscored(self, images: ImageHashes, action: NDArray[np.int8]) -> Listed:
        """What the lists make of N images without scores. `action`: [N] what the policy says of them."""
        matches = self.match(images)
        matched = matches.matrix(len(action), len(self.lists))
        return Listed(self.lists, matches, self.precedence.decide_unscored(action, matched))


def restricted(lists: Sequence[ListedImages], matches: Matches, images: int) -> NDArray[np.bool_]:
    """[N] which images are on a restricted list, live or in shadow: nothing of them may be shown."""
    hidden = np.array([one.restricted for one in lists], np.bool_)
    found = np.zeros(images, np.bool_)
    found[matches.image[hidden[matches.list]]] = True
    return found


def match_settings(one: ListedImages) -> MatchSettings:
    """What counts as a match with a list."""
    return MatchSettings(one.id, one.hash, one.distance, one.min_quality, one.turned)

"""Which images to show: the changed ones that matter most, and for each rule those nearest to its thresholds. Pure."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from moderation.policy.decision import ACTIONS
from moderation.studies.backtest.backtest_result import Changed

NEAREST = 12
"""Images kept for each rule."""
EXAMPLES = 24
"""Images kept for each kind of change, such as allow to review."""
_STRENGTH = {action.value: number for number, action in enumerate(ACTIONS)}


class Nearest:
    """The images whose scores are nearest to a threshold, for each of R rules.

    Threads may ask at the same time for candidates: `reach` only ever falls, and an old one lets too many through, not too few.
    """

    def __init__(self, rules: int, most: int = NEAREST) -> None:
        self._most = most
        self._kept: list[list[Changed]] = [[] for _ in range(rules)]
        self.reach = np.full(rules, np.inf, np.float32)
        """[R] what is further away is not among the nearest"""

    def candidates(self, distances: NDArray[np.float32]) -> list[tuple[int, int]]:
        """(image, rule) of what may be among the nearest, of distances [N, R]."""
        close = distances <= self.reach
        found = []
        for rule in np.flatnonzero(close.any(axis=0)):
            images = np.flatnonzero(close[:, rule])
            if len(images) > self._most:
                images = images[np.argsort(distances[images, rule], kind="stable")[: self._most]]
            found += [(int(image), int(rule)) for image in images]
        return found

    def add(self, found: Iterable[tuple[int, Changed]]) -> None:
        """Take in the candidates of a shard, each with its rule."""
        for rule, image in found:
            self._kept[rule].append(image)
        for rule, kept in enumerate(self._kept):
            if len(kept) > self._most:
                kept.sort(key=_nearness)
                del kept[self._most :]
            if len(kept) == self._most:
                self.reach[rule] = np.float32(max(distance(image) for image in kept))

    def of(self, rule: int) -> tuple[Changed, ...]:
        """The nearest first."""
        return tuple(sorted(self._kept[rule], key=_nearness))


class Examples:
    """Changed images, some of each kind of change: those with a score near to a threshold first."""

    def __init__(self, most: int = EXAMPLES) -> None:
        self._most = most
        self._kept: dict[tuple[str, str], list[Changed]] = {}

    def add(self, found: Mapping[tuple[str, str], list[Changed]]) -> None:
        """Take in those of a shard, by action before and after."""
        for change, images in found.items():
            kept = sorted([*self._kept.get(change, ()), *images], key=_nearness)
            self._kept[change] = kept[: self._most]

    def all(self) -> tuple[Changed, ...]:
        """Those whose action changed most come first."""
        images = [image for kept in self._kept.values() for image in kept]
        return tuple(sorted(images, key=lambda i: (-abs(_STRENGTH[i.after] - _STRENGTH[i.before]), *_nearness(i))))


class WouldFlag:
    """Images that shadow rules would flag, those with the highest scores, by the index of the rule."""

    def __init__(self, most: int = EXAMPLES) -> None:
        self._most = most
        self._kept: dict[int, list[Changed]] = {}

    def add(self, found: Mapping[int, list[Changed]]) -> None:
        """Take in those of a shard."""
        for rule, images in found.items():
            kept = sorted([*self._kept.get(rule, ()), *images], key=lambda image: (-(image.score or 0.0), image.uri))
            self._kept[rule] = kept[: self._most]

    def of(self, rule: int) -> tuple[Changed, ...]:
        """The highest scores first."""
        return tuple(self._kept.get(rule, ()))


def distance(image: Changed) -> float:
    """Of its score from the threshold, in float32 as scores are; infinite without a score."""
    if image.score is None or image.threshold is None:
        return math.inf
    return float(np.abs(np.float32(image.score) - np.float32(image.threshold)))


def _nearness(image: Changed) -> tuple[float, str]:
    return distance(image), image.uri

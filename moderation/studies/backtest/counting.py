"""Counting what changes: by action, rule, folder and day. Shards are counted side by side and added up. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.policy.decision import ACTIONS
from moderation.records import add_numbers
from moderation.studies.backtest.backtest_result import OTHER, Actions, BeforeAfter
from moderation.studies.backtest.folders import FolderCounts, folders
from moderation.studies.backtest.sides import Verdicts

K = TypeVar("K", str, int)

SHOWN_FOLDERS = 100
"""Maximum number of folders in the result of a backtest."""
_KINDS = len(ACTIONS) ** 2
_DAY = 86_400_000_000  # microseconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Transitions = NDArray[np.int64]
"""[9] images by 3 * action before + action after"""


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """Images that a rule flagged and flags, as a live rule."""

    before: int = 0
    after: int = 0
    both: int = 0

    def __add__(self, other: "RuleCounts") -> "RuleCounts":
        return RuleCounts(self.before + other.before, self.after + other.after, self.both + other.both)


@dataclass
class Tally:
    """What is counted of some images."""

    transitions: Transitions = field(default_factory=lambda: np.zeros(_KINDS, np.int64))
    unreadable: Transitions = field(default_factory=lambda: np.zeros(_KINDS, np.int64))
    """of these, images without scores"""
    rules: dict[str, RuleCounts] = field(default_factory=dict)
    would: dict[str, int] = field(default_factory=dict)
    """images that shadow rules of the new policy would flag"""
    folders: dict[str, Transitions] = field(default_factory=dict)
    days: dict[int, Transitions] = field(default_factory=dict)
    """by days since 1970, UTC"""

    def count(
        self,
        rows: pa.Table,
        before: NDArray[np.int8],
        after: NDArray[np.int8],
        depth: int | None,
        *,
        unreadable: bool = False,
    ) -> None:
        """Take in N images with their decision rows and their actions [N]; folders are cut to `depth` levels."""
        if not len(rows):
            return
        change = 3 * before.astype(np.int64) + after
        counts = np.bincount(change, minlength=_KINDS)
        self.transitions += counts
        if unreadable:
            self.unreadable += counts
        _add(self.folders, _grouped(folders(rows["uri"].combine_chunks(), depth), change))
        day = rows["last_modified"].cast(pa.int64()).to_numpy() // _DAY
        _add(self.days, _grouped(pa.array(day).dictionary_encode(), change))

    def count_flags(self, before: Verdicts, after: Verdicts) -> None:
        """Take in the flags of some images."""
        names = tuple(dict.fromkeys((*after.names, *before.names)))
        index = {name: number for number, name in enumerate(names)}
        mapped = np.array([index[name] for name in before.names], np.int64)[before.flag_rule]
        both = np.intersect1d(before.flag_image * len(names) + mapped, after.flag_image * len(names) + after.flag_rule)
        counts = (np.bincount(rule, minlength=len(names)) for rule in (mapped, after.flag_rule, both % max(1, len(names))))
        for name, *each in zip(names, *(c.tolist() for c in counts), strict=True):
            self.rules[name] = self.rules.get(name, RuleCounts()) + RuleCounts(*each)


class Total:
    """The counts of all shards."""

    def __init__(self) -> None:
        self.transitions: Transitions = np.zeros(_KINDS, np.int64)
        self.unreadable: Transitions = np.zeros(_KINDS, np.int64)
        self.rules: dict[str, RuleCounts] = {}
        self.would: dict[str, int] = {}
        self.folders = FolderCounts()
        self.days: dict[int, Transitions] = {}

    def add(self, tally: Tally) -> None:
        """Take in a shard's."""
        self.transitions += tally.transitions
        self.unreadable += tally.unreadable
        self.would = add_numbers(self.would, tally.would)
        self.folders.add(tally.folders)
        _add(self.days, tally.days.items())
        for name, found in tally.rules.items():
            self.rules[name] = self.rules.get(name, RuleCounts()) + found

    def by_action(self) -> dict[tuple[str, str], int]:
        """Images by action before and after, all nine pairs."""
        names = [action.value for action in ACTIONS]
        return {(a, b): int(self.transitions[3 * i + j]) for i, a in enumerate(names) for j, b in enumerate(names)}

    def by_folder(self, most: int = SHOWN_FOLDERS) -> dict[str, BeforeAfter]:
        """The largest folders first, then all others as one."""
        ordered = sorted(self.folders.counts.items(), key=lambda item: (-int(item[1].sum()), item[0]))
        kept = {folder: before_after(counts) for folder, counts in ordered[:most]}
        if len(ordered) > most:
            kept[OTHER] = before_after(np.sum([counts for _, counts in ordered[most:]], axis=0))
        return kept

    def by_day(self) -> dict[str, BeforeAfter]:
        """In order of the days."""
        return {day_name(day): before_after(counts) for day, counts in sorted(self.days.items())}


def before_after(counts: Transitions) -> BeforeAfter:
    """The same counts by action."""
    matrix = counts.reshape(3, 3)
    before, after = (Actions(*sums.tolist()) for sums in (matrix.sum(axis=1), matrix.sum(axis=0)))
    return BeforeAfter(before, after, int(counts.sum() - np.trace(matrix)))


def day_name(day: int) -> str:
    """2026-11-21, of the days since 1970."""
    return f"{_EPOCH + timedelta(days=day):%Y-%m-%d}"


def _grouped(groups: pa.DictionaryArray, change: NDArray[np.int64]) -> Iterable[tuple[Any, Transitions]]:
    code = groups.indices.to_numpy().astype(np.int64)
    counts = np.bincount(code * _KINDS + change, minlength=len(groups.dictionary) * _KINDS).reshape(-1, _KINDS)
    return zip(groups.dictionary.to_pylist(), counts, strict=True)


def _add(counts: dict[K, Transitions], found: Iterable[tuple[K, Transitions]]) -> None:
    for key, more in found:
        known = counts.get(key)
        counts[key] = more if known is None else known + more

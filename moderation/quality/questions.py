"""A check of the run as a question: rows to ask about, what is asked, and the answer in words."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from moderation.quality.verdicts import Argument, Expectation, Words

NAN = math.nan
"""Where there is nothing to judge."""
SHOWN = 3
"""Maximum number of rules, codes and the like to name."""


class Question(NamedTuple):
    """The question of one check to Great Expectations, and its wording for people."""

    frame: pd.DataFrame
    key: str
    """the column that names a row"""
    expectations: tuple[Expectation, ...]
    words: Words


def equal(check: str, key: str, pairs: Mapping[str, tuple[int, int]], words: Words) -> Question:
    """Whether what was found is what was wanted; `pairs` by what the column `key` calls them."""
    found, wanted = [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()]
    frame = pd.DataFrame({key: list(pairs), "found": found, "wanted": wanted})
    arguments: dict[str, Argument] = {"column_A": "found", "column_B": "wanted"}
    asked = Expectation(check, "expect_column_pair_values_to_be_equal", arguments, words.limit)
    return Question(frame, key, (asked,), words)


def holds(check: str, column: str, meaning: str) -> Expectation:
    """Whether a boolean column is true throughout."""
    return Expectation(check, "expect_column_values_to_be_in_set", {"column": column, "value_set": [True]}, meaning)


def at_most(check: str, column: str, limit: float, meaning: str) -> Expectation:
    """Whether no number is above a limit; NaN is not judged."""
    arguments: dict[str, Argument] = {"column": column, "max_value": limit}
    return Expectation(check, "expect_column_values_to_be_between", arguments, f"{meaning} is at most {limit:g}")


def too_few(scored: int, at_least: int) -> str:
    """Why a run was not judged."""
    return f"not checked: {count(scored, 'scored image')}, {at_least:,} needed"


def count(number: int, what: str) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def some(items: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def most(counts: Mapping[str, int]) -> str:
    """The largest counts, largest first: corrupt 12, empty 3."""
    return some([f"{name} {number:,}" for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))])


def percent(part: float, whole: float = 1.0) -> str:
    """A share with three digits; 0 % of nothing."""
    return f"{100 * part / whole:.3g} %" if whole else "0 %"

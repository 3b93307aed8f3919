"""Run-level checks of each rule: against itself, and against earlier runs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from moderation.quality.distance import kolmogorov_smirnov, population_stability_index, shares
from moderation.quality.facts import RunFacts, RunHistory, comparable_rates, comparable_scores
from moderation.quality.quality_limits import FlagRate, QualityLimits
from moderation.quality.questions import Question, at_most, count, holds, percent, some, too_few
from moderation.quality.verdicts import Expectation, Words
from moderation.results.rule_statistics import RuleStatistics

SAME = 1e-6
"""Scores that differ by no more than this part of the largest are taken for one."""
ROUNDING = 1e-9
"""So that a share at its bound holds, however it was rounded."""


def constant_scores(facts: RunFacts, limits: QualityLimits, _: object) -> Question:
    """A model that sees no difference between images gives all of them one score."""
    least = limits.checks.constant_scores.at_least
    judged = {name: rule for name, rule in facts.rules.items() if rule.scored >= least}
    differ = {name: _differ(rule) for name, rule in judged.items()}
    constant = [f"{name} (always {judged[name].minimum:.4g})" for name in judged if not differ[name]]
    found = f"one score for all images: {some(constant)}" if constant else f"none of {count(len(judged), 'rule')}"
    words = Words(found if judged else too_few(facts.counts.scored, least), "no rule")
    frame = pd.DataFrame({"rule": list(judged), "scores_differ": list(differ.values())})
    return Question(frame, "rule", (holds("constant_scores", "scores_differ", "the rule's scores differ"),), words)


class _Band(NamedTuple):
    """A rule's share of flagged images, what it may be, and what it usually is."""

    rule: str
    flag_rate: float
    lowest: float
    highest: float
    usual: float

    @property
    def holds(self) -> bool:
        return self.lowest <= self.flag_rate <= self.highest

    @property
    def jump(self) -> float:
        return abs(math.log(max(self.flag_rate, 1e-9) / max(self.usual, 1e-9)))

    def __str__(self) -> str:
        return f"{self.rule} {percent(self.flag_rate)} where {percent(self.usual)} is usual"


def flag_rate(facts: RunFacts, limits: QualityLimits, history: Sequence[RunHistory]) -> Question:
    """A flood, a broken model and a mistyped threshold all show as a jump in what a rule flags."""
    check = limits.checks.flag_rate
    runs = comparable_rates(history, facts.expected, limits)
    bands = []
    for name, rule in facts.rules.items():
        rates = [r.rules[name].flag_rate for r in runs if name in r.rules and r.rules[name].scored >= check.at_least]
        if rule.scored >= check.at_least and len(rates) >= check.min_runs:
            bands.append(_band(name, rule, float(np.median(rates)), check))
    bands.sort(key=lambda band: (band.holds, -band.jump))
    if not bands:
        found = _not_judged(facts, runs, check.min_runs, check.at_least)
    elif bands[0].holds:
        found = f"largest change: {bands[0]}"
    else:
        found = some([str(band) for band in bands if not band.holds])
    allowed = f"{check.low:g} to {check.high:g} times the median of the last {count(check.runs, 'run')}"
    return Question(pd.DataFrame(bands, columns=_Band._fields), "rule", _WITHIN, Words(found, allowed))


def _band(name: str, rule: RuleStatistics, usual: float, check: FlagRate) -> _Band:
    slack = check.difference / rule.scored
    lowest = min(check.low * usual, usual - slack) - ROUNDING
    highest = max(check.high * max(usual, check.floor), usual + slack) + ROUNDING
    return _Band(name, rule.flag_rate, max(0.0, lowest), min(1.0, highest), usual)


_NOT_BELOW = "expect_column_pair_values_a_to_be_greater_than_b"
_WITHIN = (
    Expectation(
        "flag_rate",
        _NOT_BELOW,
        {"column_A": "highest", "column_B": "flag_rate", "or_equal": True},
        "the share of flagged images is not far above the usual",
    ),
    Expectation(
        "flag_rate",
        _NOT_BELOW,
        {"column_A": "flag_rate", "column_B": "lowest", "or_equal": True},
        "the share of flagged images is not far below the usual",
    ),
)


def drift(facts: RunFacts, limits: QualityLimits, history: Sequence[RunHistory]) -> Question:
    """Scores distributed differently than before, although neither policy nor model changed."""
    check = limits.checks.drift
    limit = check.psi if check.method == "psi" else check.ks
    distance = population_stability_index if check.method == "psi" else kolmogorov_smirnov
    runs = comparable_scores(history, facts.expected, limits)
    distances = {}
    for name, rule in facts.rules.items():
        same = [r.rules[name] for r in runs if name in r.rules and _comparable(rule, r.rules[name], check.at_least)]
        if rule.scored >= check.at_least and len(same) >= check.min_runs:
            # Every earlier run weighs the same: a backlog scored once is no standard for ever.
            distances[name] = distance(rule.histogram, np.mean([shares(s.histogram) for s in same], axis=0).tolist())
    ranked = sorted(distances.items(), key=lambda item: -item[1])
    odd = [f"{name} {value:.2f}" for name, value in ranked if value > limit]
    if not ranked:
        found = _not_judged(facts, runs, check.min_runs, check.at_least)
    else:
        found = some(odd) if odd else f"largest: {ranked[0][0]} {ranked[0][1]:.2f}"
    asked = at_most("drift", "distance", limit, f"{check.method} between the rule's scores and those of earlier runs")
    words = Words(found, f"{check.method} {limit:g}")
    return Question(pd.DataFrame(ranked, columns=["rule", "distance"]), "rule", (asked,), words)


def _differ(rule: RuleStatistics) -> bool:
    if rule.minimum is None or rule.maximum is None:
        return True  # `score_present` reports scores that are not numbers
    return rule.maximum - rule.minimum > SAME * max(abs(rule.minimum), abs(rule.maximum))


def _comparable(rule: RuleStatistics, other: RuleStatistics, at_least: int) -> bool:
    bins = (rule.low, rule.high, len(rule.histogram)) == (other.low, other.high, len(other.histogram))
    return bins and other.scored >= at_least


def _not_judged(facts: RunFacts, runs: Sequence[RunHistory], min_runs: int, at_least: int) -> str:
    if facts.counts.scored < at_least:
        return too_few(facts.counts.scored, at_least)
    return f"not checked: {count(len(runs), 'earlier run')}, {min_runs:,} needed"

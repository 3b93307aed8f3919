"""How right a policy and its rules are, as reviews show: share overturned, precision, recall."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import duckdb

from moderation.measures.judged_images import By, ByAction, Counted, Part, of_policies, of_rules, prepare
from moderation.measures.rates import Judged, Rate, precision, recall


@dataclass(frozen=True, slots=True)
class RuleMeasure:
    """A live rule, as people judged the images that it flagged."""

    part: Part
    rule: str
    flagged: int
    """images that it flagged"""
    judged: int
    """of these, how many people judged, for whatever reason"""
    overturned: int
    """of these, how many they found fine"""
    precision: Rate
    """of all flagged images"""
    blocked_precision: Rate
    """of those that were blocked, by this rule or another"""


@dataclass(frozen=True, slots=True)
class PolicyMeasure:
    """A policy, as people judged the images that it decided about."""

    part: Part
    images: Mapping[str, int]
    """scored images by action"""
    judged: Mapping[str, int]
    """of these, how many people judged"""
    precision: Rate
    """of flagged images, the share that violates any rule"""
    recall: Rate
    """of the images that violate any rule, the share that is flagged"""


@dataclass(frozen=True, slots=True)
class Measures:
    """All policies and rules, by name."""

    policies: tuple[PolicyMeasure, ...]
    rules: tuple[RuleMeasure, ...]


def measure(connection: duckdb.DuckDBPyConnection, by: By = "policy", since: date | None = None) -> Measures:
    """Measure the policies and rules of published runs by the reviews there are.

    Args:
        connection: from `moderation.query.connect`.
        by: `version` or `day` keeps versions of a policy, or days of runs, apart.
        since: only decisions of runs that started on this day or later.

    Raises:
        SettingsError: results cannot be read.
    """
    prepare(connection, by, since)
    return Measures(
        policies=tuple(_policy(part, actions) for part, actions in of_policies(connection).items()),
        rules=tuple(_rule(part, rule, actions) for (part, rule), actions in of_rules(connection).items()),
    )


def measure_rules(connection: duckdb.DuckDBPyConnection, policy: str, since: date) -> tuple[RuleMeasure, ...]:
    """The rules of one policy, by its flagged images alone. Arguments and errors as for `measure`."""
    prepare(connection, since=since, flagged_of=policy)
    return tuple(_rule(part, rule, actions) for (part, rule), actions in of_rules(connection).items())


def _rule(part: Part, rule: str, actions: ByAction) -> RuleMeasure:
    everybody = sum((counted.everybody for counted in actions.values()), Judged())
    return RuleMeasure(
        part,
        rule,
        flagged=sum(counted.images for counted in actions.values()),
        judged=everybody.images,
        overturned=everybody.images - everybody.violates,
        precision=precision([cell for action, counted in actions.items() for cell in counted.cells(action)]),
        blocked_precision=precision(actions.get("block", Counted()).cells("block")),
    )


def _policy(part: Part, actions: ByAction) -> PolicyMeasure:
    flagged = [cell for action, counted in actions.items() if action != "allow" for cell in counted.cells(action)]
    return PolicyMeasure(
        part,
        images={action: counted.images for action, counted in actions.items()},
        judged={action: counted.everybody.images for action, counted in actions.items()},
        precision=precision(flagged),
        recall=recall(flagged, actions.get("allow", Counted()).cells("allow")),
    )

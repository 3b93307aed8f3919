"""What people said about images that earlier runs flagged: how often rules are overturned, and how precise they are."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from moderation.errors import OutputError, SettingsError, StorageError
from moderation.html.text import number
from moderation.measures import measure_text
from moderation.measures.rates import Rate
from moderation.policy.schema import Mode, Policy
from moderation.quality.quality_limits import ReviewLimits
from moderation.report.notices import Notice
from moderation.results.manifest import Manifest
from moderation.reviews import store
from moderation.storage import Store

if TYPE_CHECKING:
    from moderation.measures.rule_measures import RuleMeasure

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TooLow:
    """A precision that lies clearly below its limit: with the whole of its interval."""

    rule: str
    key: str
    """which limit: flagged or blocked"""
    precision: Rate
    limit: float


@dataclass(frozen=True)
class Reviewed:
    """The live rules of a policy by their reviews, in the policy's order."""

    rules: tuple["RuleMeasure", ...]
    limits: ReviewLimits

    @property
    def below(self) -> tuple[TooLow, ...]:
        """Precisions clearly below their limit."""
        return tuple(
            TooLow(rule.rule, key, rate, limit)
            for rule in self.rules
            for key, rate, limit in (
                ("flagged", rule.precision, self.limits.flagged),
                ("blocked", rule.blocked_precision, self.limits.blocked),
            )
            if rate.value is not None and rate.high < limit
        )

    @property
    def rows(self) -> Iterator[tuple[str, ...]]:
        """Texts for a table: rule, flagged, judged, overturned, precision, precision of blocks."""
        for rule in self.rules:
            yield (
                rule.rule,
                number(rule.flagged),
                number(rule.judged),
                measure_text.overturned(rule),
                measure_text.rate(rule.precision),
                measure_text.rate(rule.blocked_precision),
            )


def reviewed_rules(output: Store, manifest: Manifest, policy: Policy, limits: ReviewLimits) -> Reviewed | None:
    """How reviews of the last published runs of a policy went; None, without reading decisions, if there are none.

    Args:
        output: the results.
        manifest: of the run that is reported: reviews of decisions up to `limits.days` before it count.
        policy: its policy: live rules that people judged at least one flagged image of are shown.
        limits: what to warn about, and how far back to look.
    """
    try:
        if not store.files(output):
            return None
    except StorageError as error:
        _log.warning("the report of run %s says nothing about reviews: %s", manifest.run_id, error)
        return None
    # DuckDB is loaded only where it is needed: its bindings print at the end of a process that Ray and Prefect have been in.
    from moderation.measures.rule_measures import measure_rules  # noqa: PLC0415
    from moderation.query.connection import connect  # noqa: PLC0415

    since = (manifest.started_at.astimezone(UTC) - timedelta(days=limits.days)).date()
    try:
        with connect(output.uri) as connection:
            by_rule = {rule.rule: rule for rule in measure_rules(connection, policy.policy, since)}
    except (SettingsError, OutputError) as error:
        _log.warning("the report of run %s says nothing about reviews: %s", manifest.run_id, error)
        return None
    live = [by_rule[rule.id] for rule in policy.rules if rule.mode is Mode.LIVE and rule.id in by_rule]
    judged = tuple(rule for rule in live if rule.judged)
    return Reviewed(judged, limits) if judged else None


def imprecise(reviewed: Reviewed | None) -> Iterator[Notice]:
    """A warning where rules are clearly less precise than they should be."""
    below = reviewed.below if reviewed else ()
    if below:
        said = "; ".join(
            f"{low.rule}: {measure_text.rate(low.precision)} of the {low.key} images are right, below {low.limit:g}"
            for low in below
        )
        title = "A rule is imprecise" if len({low.rule for low in below}) == 1 else "Rules are imprecise"
        text = (
            f"By reviews of earlier runs. {said}. Raise the threshold (moderate policy tune with --labels reviews), or set the "
            "rule to mode: shadow. The limits are in the file of quality limits, under reviews."
        )
        yield Notice("review", title, text)

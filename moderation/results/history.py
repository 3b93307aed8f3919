"""Earlier runs that a run can be compared with. Pure."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from moderation.records import add_numbers
from moderation.results.manifest import Manifest

RUNS = 20
"""Earlier runs that are looked at."""


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run in a few numbers, as later ones look back on it."""

    run_id: str
    started_at: datetime
    listed: int
    scored: int
    errored: int
    blocked: int
    review: int
    flagged: Mapping[str, int]
    """by rule, shadow rules too; rules that flagged nothing are missing"""
    near_threshold: int = 0
    unreadable_review: int = 0
    """objects with an error row that the policy sends to people"""
    policy_hash: str = ""
    model_fingerprint: str = ""

    @property
    def unchanged(self) -> int:
        """Objects that had a decision already."""
        return self.listed - self.processed

    @property
    def allowed(self) -> int:
        """Scored images that no live rule flagged."""
        return self.scored - self.blocked - self.review

    @property
    def to_review(self) -> int:
        """Images that await a person: flagged by rules, or unreadable (`moderation.results.human_work`)."""
        return self.review + self.unreadable_review

    @property
    def processed(self) -> int:
        """Objects scored or errored."""
        return self.scored + self.errored


def earlier_runs(manifests: Iterable[Manifest], manifest: Manifest) -> list[EarlierRun]:
    """Up to `RUNS` runs that started before a run, newest first: of the same policy name, over the same sources.

    Looks at all manifests and holds on to no more than it returns.
    """
    place = (manifest.started_at, manifest.run_id)
    comparable = (
        other
        for other in manifests
        if other.policy == manifest.policy
        and sorted(other.sources) == sorted(manifest.sources)
        and (other.started_at, other.run_id) < place
    )
    return [in_numbers(m) for m in heapq.nlargest(RUNS, comparable, key=lambda m: (m.started_at, m.run_id))]


def in_numbers(manifest: Manifest) -> EarlierRun:
    """A run as those after it see it."""
    counts = manifest.counts
    return EarlierRun(
        run_id=manifest.run_id,
        started_at=manifest.started_at,
        listed=manifest.listed,
        scored=counts.scored,
        errored=counts.errors,
        blocked=counts.blocked,
        review=counts.review,
        flagged=add_numbers(counts.flagged, counts.shadow),
        near_threshold=counts.near_threshold,
        unreadable_review=manifest.to_review.unreadable,
        policy_hash=manifest.policy_hash,
        model_fingerprint=manifest.model_fingerprint,
    )

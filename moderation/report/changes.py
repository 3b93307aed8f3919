"""What changed since an earlier run, in words: nobody should need to see colours or arrows for it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from moderation.html.text import number, percent
from moderation.results.history import EarlierRun


@dataclass(frozen=True, slots=True)
class Change:
    """A difference to an earlier run."""

    arrow: str
    """▲, ▼ or ＝; says nothing that `words` does not say"""
    words: str


def last_run(earlier: Sequence[EarlierRun]) -> EarlierRun | None:
    """The run to compare with, of runs newest first: the last one that took something up, since others have no rates."""
    return next((run for run in earlier if run.processed), earlier[0] if earlier else None)


def flags_of(run: EarlierRun, rule: str, policy_hash: str) -> int | None:
    """How many images a rule flagged in an earlier run; None if that run may not have known the rule."""
    return run.flagged.get(rule, 0 if run.policy_hash == policy_hash else None)


def count_change(now: int, before: int) -> Change:
    """12 more, 3 fewer, as many."""
    if now == before:
        return Change("=", "as many as before")
    return Change("▲", f"{number(now - before)} more") if now > before else Change("▼", f"{number(before - now)} fewer")


def rate_change(now: tuple[int, int], before: tuple[int, int]) -> Change | None:
    """Up from 0.12%, down from 2.0%; None if one of both has no rate. Each is (part, whole)."""
    if not now[1] or not before[1]:
        return None
    was = percent(*before)
    if percent(*now) == was:
        return Change("=", "same rate")
    return Change("▲", f"up from {was}") if now[0] * before[1] > before[0] * now[1] else Change("▼", f"down from {was}")

"""What is left to people: one number everywhere, with its parts.

An image goes to a person because a rule flags it, or because it cannot be scored and the policy says `unreadable: review`,
or `unsupported: review` of formats that are not read; or because a hash list says so.
Reports, the terminal, backtests and messages all take the number from here. Pure.
"""

from dataclasses import dataclass

from moderation.errors import ErrorCode
from moderation.policy.schema import Action
from moderation.records import Counts


@dataclass(frozen=True, slots=True)
class Work:
    """Images that await a person."""

    flagged: int
    """by rules"""
    unreadable: int
    """that could not be scored"""

    @property
    def images(self) -> int:
        """All of them."""
        return self.flagged + self.unreadable

    @property
    def parts(self) -> str:
        """19 by rules, 12 unreadable."""
        return f"{self.flagged:,} by rules, {self.unreadable:,} unreadable"


def to_review(counts: Counts, unreadable: str | None, unsupported: str | None = None) -> Work:
    """The work that a run makes.

    Args:
        counts: of the run.
        unreadable: what its policy says about images that cannot be scored; None, of runs of earlier versions, is `review`,
            which is what a policy says unless it says something else.
        unsupported: the same about images of formats that are not read; None: what `unreadable` says.
    """
    unread = counts.errored.get(ErrorCode.UNSUPPORTED_FORMAT, 0)
    others = unreadable or Action.REVIEW
    parts = ((unread, unsupported or others), (counts.errors - unread, others))
    unscored = sum(count for count, action in parts if action == Action.REVIEW)
    return Work(counts.review, unscored + counts.unscored_review)

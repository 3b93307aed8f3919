"""One judgement of one person about one image."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from moderation.reviews.identity import as_uuid, new_id


class Verdict(StrEnum):
    """What a person saw."""

    VIOLATES = "violates"
    FINE = "fine"
    UNSURE = "unsure"
    CANNOT_SEE = "cannot_see"


class ReviewAction(StrEnum):
    """What a person decided about the image. `escalate` decides nothing: somebody else has to look."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"
    ESCALATE = "escalate"


class Source(StrEnum):
    """How a review was entered."""

    STUDIO = "studio"
    CSV = "csv"
    LABEL_STUDIO = "label_studio"
    FIFTYONE = "fiftyone"
    LABEL_SHEET = "label_sheet"
    API = "api"


class Selection(StrEnum):
    """Why the image was shown to a person."""

    DECISION = "decision"
    """its decision is in the queue"""
    AUDIT_ALLOWED = "audit_allowed"
    """a random audit of allowed images"""
    AUDIT_BLOCKED = "audit_blocked"
    """a random audit of blocked images"""
    DOUBLE = "double"
    """a second review of an image that somebody has reviewed"""
    GOLDEN = "golden"
    """an image whose answer is known, mixed in to measure reviewers"""
    APPEAL = "appeal"
    """somebody objected to the decision"""
    SAMPLE = "sample"
    """a sample that was drawn to be labelled"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One row of the table `reviews`; `moderation.reviews.schema` describes each column.

    It belongs to the bytes of the image (`sha256`; where these are unknown, to `uri` and `etag`) and to the rule.
    """

    review_id: str = field(default_factory=new_id)
    uri: str
    etag: str = ""
    sha256: str | None = None
    pdq: str | None = None
    frame: int | None = None
    run_id: str | None = None
    policy: str | None = None
    policy_version: str | None = None
    policy_hash: str | None = None
    queue: str | None = None
    selection: Selection = Selection.DECISION
    weight: float | None = None
    rule: str | None = None
    rule_meaning: str | None = None
    verdict: Verdict
    action: ReviewAction | None = None
    reason: str | None = None
    note: str | None = None
    reviewer: str
    opened_at: datetime | None = None
    decided_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    blind: bool = False
    source: Source
    supersedes: str | None = None
    appeal_id: str | None = None
    machine_action: str | None = None
    machine_rule: str | None = None
    machine_score: float | None = None
    machine_threshold: float | None = None


def imported_review_id(review: Review) -> str:
    """The id of a review that a file holds: the same whenever the file is imported again, so that it counts once.

    It sorts by `decided_at` and covers what a person said, not what the results said of the image at the time of the import.
    """
    milliseconds = int(review.decided_at.timestamp() * 1000)
    image = review.sha256 or f"{review.uri}\n{review.etag}"
    said = (image, review.rule, review.verdict, review.action, review.reason, review.note, review.reviewer, review.decided_at)
    content = "\0".join("" if part is None else f"={part}" for part in said)
    digest = int.from_bytes(hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()[:10])
    return as_uuid(milliseconds << 12 | digest >> 68, digest & (1 << 62) - 1)

"""The tables `reviews` and `appeals` as Arrow schemas, described in their fields' metadata. Pure.

A schema only ever gains nullable columns, as those of `moderation.results.schemas`.
"""

from collections.abc import Iterable
from dataclasses import asdict

import pyarrow as pa

from moderation.reviews.review import Review

VERSION = 1

_UTC = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False, since: int = 1) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description, "since": str(since)})


REVIEWS = pa.schema(
    [
        _field("review_id", _TEXT, "identity of the review; ids sort by time. A row that is read twice has the same id"),
        _field("uri", _TEXT, "URI of the object that was shown"),
        _field("etag", _TEXT, "its version; empty if unknown"),
        _field(
            "sha256",
            _TEXT,
            "SHA-256 of its bytes, to which the review belongs; if null (unreadable), it belongs to `uri` and `etag`",
            nullable=True,
        ),
        _field("pdq", _TEXT, "perceptual hash of the image, by which near-duplicates are found", nullable=True),
        _field("frame", pa.int32(), "the frame that was shown first, counted from 0", nullable=True),
        _field("run_id", _TEXT, "the run whose decision was reviewed", nullable=True),
        _field("policy", _TEXT, "name of the policy that decided", nullable=True),
        _field("policy_version", _TEXT, "its version as its file states it", nullable=True),
        _field("policy_hash", _TEXT, "its identity", nullable=True),
        _field("queue", _TEXT, "the queue in which the image was reviewed", nullable=True),
        _field(
            "selection",
            _TEXT,
            "why it was shown: decision | audit_allowed | audit_blocked | double | golden | appeal | sample",
        ),
        _field(
            "weight",
            pa.float64(),
            "number of images that this one stands for: 1 / the probability that it was chosen; null if not chosen at random",
            nullable=True,
        ),
        _field("rule", _TEXT, "the rule that the verdict is about; null: the whole image", nullable=True),
        _field(
            "rule_meaning",
            _TEXT,
            "hash of what the rule looked for then (prompts, lookalikes, score kind; not thresholds)",
            nullable=True,
        ),
        _field("verdict", _TEXT, "violates | fine | unsure | cannot_see"),
        _field(
            "action",
            _TEXT,
            "allow | review | block | escalate: the decision about the image; null if the review only answers for the rule",
            nullable=True,
        ),
        _field("reason", _TEXT, "the reason chosen from the queue's list", nullable=True),
        _field("note", _TEXT, "free text of the reviewer", nullable=True),
        _field("reviewer", _TEXT, "who reviewed"),
        _field("opened_at", _UTC, "when the image was opened", nullable=True),
        _field("decided_at", _UTC, "when the reviewer decided"),
        _field("blind", pa.bool_(), "whether the reviewer could not see what the machine and other reviewers said"),
        _field("source", _TEXT, "studio | csv | label_studio | fiftyone | label_sheet | api"),
        _field("supersedes", _TEXT, "`review_id` of an earlier review that this one replaces", nullable=True),
        _field("appeal_id", _TEXT, "the appeal that this review answers", nullable=True),
        _field("machine_action", _TEXT, "what the machine had decided: allow | review | block", nullable=True),
        _field("machine_rule", _TEXT, "the rule that had decided", nullable=True),
        _field(
            "machine_score", pa.float32(), "the score then, of `rule`, or of `machine_rule` for the whole image", nullable=True
        ),
        _field("machine_threshold", pa.float32(), "the threshold then, of the same rule", nullable=True),
    ],
    metadata={
        "table": "reviews",
        "description": "one row per judgement of a person; rows are only ever added, and `current_reviews` shows which count",
        "schema_version": str(VERSION),
    },
)


def as_table(reviews: Iterable[Review]) -> pa.Table:
    """Reviews as rows, in their order."""
    return pa.Table.from_pylist([asdict(review) for review in reviews], schema=REVIEWS)

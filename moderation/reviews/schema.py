"""The table `reviews` as an Arrow schema, described in its fields' metadata. Pure.

It only ever gains nullable columns, as those of `moderation.results.schemas`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from moderation.reviews.review import Review, ReviewAction, Selection, Source, Verdict

VERSION = 1

_UTC = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()


def described(name: str, kind: pa.DataType, description: str, *, nullable: bool = False, since: int = 1) -> pa.Field:
    """A column with its description and the version that brought it, in the metadata."""
    return pa.field(name, kind, nullable=nullable, metadata={"description": description, "since": str(since)})


REVIEWS = pa.schema(
    [
        described("review_id", _TEXT, "identity of the review; ids sort by time. A row that is read twice has the same id"),
        described("uri", _TEXT, "URI of the object that was shown"),
        described("etag", _TEXT, "its version; empty if unknown"),
        described(
            "sha256",
            _TEXT,
            "SHA-256 of its bytes, to which the review belongs; if null (unreadable), it belongs to `uri` and `etag`",
            nullable=True,
        ),
        described("pdq", _TEXT, "perceptual hash of the image, by which near-duplicates are found", nullable=True),
        described("frame", pa.int32(), "the frame that was shown first, counted from 0", nullable=True),
        described("run_id", _TEXT, "the run whose decision was reviewed", nullable=True),
        described("policy", _TEXT, "name of the policy that decided", nullable=True),
        described("policy_version", _TEXT, "its version as its file states it", nullable=True),
        described("policy_hash", _TEXT, "its identity", nullable=True),
        described("queue", _TEXT, "the queue in which the image was reviewed", nullable=True),
        described(
            "selection",
            _TEXT,
            "why it was shown: decision | audit_allowed | audit_blocked | double | golden | appeal | sample",
        ),
        described(
            "weight",
            pa.float64(),
            "number of images that this one stands for: 1 / the probability that it was chosen; null if not chosen at random",
            nullable=True,
        ),
        described("rule", _TEXT, "the rule that the verdict is about; null: the whole image", nullable=True),
        described(
            "rule_meaning",
            _TEXT,
            "hash of what the rule looked for then (prompts, lookalikes, score kind; not thresholds)",
            nullable=True,
        ),
        described("verdict", _TEXT, "violates | fine | unsure | cannot_see"),
        described(
            "action",
            _TEXT,
            "allow | review | block | escalate: the decision about the image; null if the review only answers for the rule",
            nullable=True,
        ),
        described("reason", _TEXT, "the reason chosen from the queue's list", nullable=True),
        described("note", _TEXT, "free text of the reviewer", nullable=True),
        described("reviewer", _TEXT, "who reviewed"),
        described("opened_at", _UTC, "when the image was opened", nullable=True),
        described("decided_at", _UTC, "when the reviewer decided"),
        described("blind", pa.bool_(), "whether the reviewer could not see what the machine and other reviewers said"),
        described("source", _TEXT, "studio | csv | label_studio | fiftyone | label_sheet | api"),
        described("supersedes", _TEXT, "`review_id` of an earlier review that this one replaces", nullable=True),
        described("appeal_id", _TEXT, "the appeal that this review answers", nullable=True),
        described("machine_action", _TEXT, "what the machine had decided: allow | review | block", nullable=True),
        described("machine_rule", _TEXT, "the rule that had decided", nullable=True),
        described(
            "machine_score", pa.float32(), "the score then, of `rule`, or of `machine_rule` for the whole image", nullable=True
        ),
        described("machine_threshold", pa.float32(), "the threshold then, of the same rule", nullable=True),
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


def as_reviews(rows: pa.Table) -> list[Review]:
    """What rows say, in their order."""
    return [
        Review(**{name: _KINDS[name](value) if value and name in _KINDS else value for name, value in row.items()})
        for row in rows.to_pylist()
    ]


_KINDS: Mapping[str, Callable[[str], Any]] = {
    "verdict": Verdict,
    "action": ReviewAction,
    "selection": Selection,
    "source": Source,
}

"""An objection to a decision, and the table `appeals`. A review with its `appeal_id` answers it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from moderation.reviews.identity import new_id
from moderation.reviews.schema import VERSION, described

FOLDER = "appeals/"
QUEUE = "appeals"
"""The queue in which images with an open appeal wait."""

_UTC = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()


@dataclass(frozen=True, slots=True, kw_only=True)
class Appeal:
    """One row of the table `appeals`."""

    appeal_id: str = field(default_factory=new_id)
    uri: str
    etag: str = ""
    sha256: str | None = None
    text: str = ""
    appellant: str | None = None
    reference: str | None = None
    appealed_action: str | None = None
    filed_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    imported_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    source: str = "csv"


APPEALS = pa.schema(
    [
        described("appeal_id", _TEXT, "identity of the appeal; ids sort by time"),
        described("uri", _TEXT, "URI of the object that was decided about"),
        described("etag", _TEXT, "its version; empty if unknown"),
        described("sha256", _TEXT, "SHA-256 of its bytes; null if they could not be read", nullable=True),
        described("text", _TEXT, "what the person who appeals says"),
        described("appellant", _TEXT, "who appeals", nullable=True),
        described(
            "reference",
            _TEXT,
            "the appeal's number in another system; an appeal of the same number is not added again",
            nullable=True,
        ),
        described(
            "appealed_action",
            _TEXT,
            "the decision in effect when the appeal was imported: allow | review | block",
            nullable=True,
        ),
        described("filed_at", _UTC, "when the appeal was made"),
        described("imported_at", _UTC, "when it was imported"),
        described("source", _TEXT, "csv | webhook"),
    ],
    metadata={
        "table": "appeals",
        "description": "one row per appeal; rows are only ever added",
        "schema_version": str(VERSION),
    },
)


def as_table(appeals: Iterable[Appeal]) -> pa.Table:
    """Appeals as rows, in their order."""
    return pa.Table.from_pylist([asdict(appeal) for appeal in appeals], schema=APPEALS)

"""Reviews for tests in a few words each, and results whose images have bytes of their own."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import published
from published import JOBS, Job

from moderation.reviews.review import Review, ReviewAction, Source, Verdict
from moderation.storage import Store

BEGAN = datetime(2026, 11, 23, 9, tzinfo=UTC)


def sha(name: str) -> str:
    """A made-up SHA-256 of an image."""
    return name.encode().hex().ljust(64, "0")[:64]


def review(image: str = "a", action: str | None = "allow", minute: int = 0, **columns: Any) -> Review:
    """A review of an image, named by its key under `s3://shop/`, so many minutes after `BEGAN`."""
    given = {
        "uri": f"s3://shop/{image}",
        "etag": "v1",
        "sha256": sha(image),
        "verdict": Verdict.FINE if action == "allow" else Verdict.VIOLATES,
        "action": None if action is None else ReviewAction(action),
        "reviewer": "ann",
        "decided_at": BEGAN + timedelta(minutes=minute),
        "source": Source.CSV,
    }
    return Review(**{**given, **columns})


def jobs() -> tuple[Job, ...]:
    """The three runs of `published`, every image with bytes of its own."""
    return tuple(replace(job, hashes={name: sha(name) for name in job.scored}) for job in JOBS)


def write_results(output: Store) -> None:
    """Publish them. Six images await a person: knife, party, almost, broken, gone, huge."""
    published.write_results(output, jobs())

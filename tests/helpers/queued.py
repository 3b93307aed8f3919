"""Results with images whose scores and answers are known, and reviews of them, for tests of queues and measures."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vector_results import Image, publish_vectors

from moderation.policy_files.loading import parse_policy
from moderation.queues.open_queue import QueuedImage
from moderation.reviews.review import Review, ReviewAction, Selection, Source, Verdict
from moderation.reviews.store import append
from moderation.storage import Store

POLICY = """
policy: shop
version: "1"
model: {name: demo}
near: 0.05
rules:
  - {id: firearms, category: weapons, severity: high, prompts: [a handgun], score: similarity, review: 0.5, block: 0.75}
  - {id: nudity, category: adult, severity: critical, prompts: [a nude], score: similarity, review: 0.5, block: 0.75}
  - {id: beer, category: alcohol, severity: low, prompts: [a beer], score: similarity, review: 0.5}
"""
FIRST, SECOND = "20261120T030000Z-aaaaaa", "20261121T030000Z-bbbbbb"
REVIEWED = datetime(2026, 11, 23, 9, tzinfo=UTC)
ALLOWED, REVIEW, BLOCK = (0.25, 0.0, 0.0), (0.5625, 0.0, 0.0), (0.875, 0.0, 0.0)

Scores = tuple[float, float, float]
"""of firearms, nudity and beer: multiples of 1/32, which float16 holds exactly"""


def uri(name: str) -> str:
    return f"s3://shop/{name}"


def publish(
    folder: Path,
    scores: dict[str, Scores],
    *,
    run_id: str = FIRST,
    policy: str = POLICY,
    broken: Sequence[str] = (),
    content: dict[str, str] | None = None,
) -> str:
    """A run over images of these names; `content`: what stands for the bytes of those that are copies of others."""
    images = [Image(uri(name), [list(of)], (content or {}).get(name, "")) for name, of in scores.items()]
    publish_vectors(
        Store(str(folder)), images, parse_policy(policy), policy, broken=[uri(name) for name in broken], run_id=run_id
    )
    return str(folder)


def sha256(name: str) -> str:
    return Image(uri(name), []).sha256


def review_of(
    item: QueuedImage | str, *, violates: bool | None = False, reviewer: str = "ann", minute: int = 0, **columns: object
) -> Review:
    """A review of an item of a queue, or of an image by its name, with the decision that goes with the verdict."""
    shown = {} if isinstance(item, str) else _of(item)
    verdict = Verdict.UNSURE if violates is None else Verdict.VIOLATES if violates else Verdict.FINE
    action = ReviewAction.ESCALATE if violates is None else ReviewAction.BLOCK if violates else ReviewAction.ALLOW
    name = item if isinstance(item, str) else ""
    base = Review(
        uri=uri(name),
        etag="v1",
        sha256=sha256(name),
        verdict=verdict,
        action=action,
        reviewer=reviewer,
        source=Source.API,
        decided_at=REVIEWED + timedelta(minutes=minute),
    )
    return replace(base, **{**shown, **columns})


def _of(item: QueuedImage) -> dict[str, object]:
    return {
        "uri": item.uri,
        "etag": item.etag,
        "sha256": item.sha256,
        "policy": item.policy,
        "policy_version": item.policy_version,
        "policy_hash": item.policy_hash,
        "selection": item.why,
        "weight": item.weight,
        "rule": item.rules[0] if item.rules else None,
        "machine_action": item.action,
        "machine_rule": item.top_rule,
        "machine_score": item.top_score,
    }


def answer(results: str, items: Iterable[QueuedImage], violates: Callable[[QueuedImage], bool], reviewer: str = "ann") -> None:
    """Append a review of each item; nothing is decided about those whose answer is known."""
    reviews = [review_of(item, violates=violates(item), reviewer=reviewer) for item in items]
    append(Store(results), [replace(r, action=None) if r.selection is Selection.GOLDEN else r for r in reviews])

"""Results to act on, and a target that receives their actions."""

from datetime import UTC, datetime, timedelta

from published import POLICY_TEXT
from vector_results import Image, publish_vectors
from webhook_receiver import KEY, Receiver

from moderation.actions.acting import Settings
from moderation.actions.actions_file import parse_actions
from moderation.actions.dispatch import Patience
from moderation.actions.targets import Secret, Target
from moderation.policy_files.loading import parse_policy
from moderation.reviews.review import Review, ReviewAction, Source, Verdict
from moderation.reviews.store import append
from moderation.storage import Store

POLICY = parse_policy(POLICY_TEXT)
STARTED = datetime(2026, 11, 21, 3, tzinfo=UTC)

GUN, KNIFE, NUDE, FACE = (f"s3://shop/{name}.jpg" for name in ("gun", "knife", "nude", "face"))
BROKEN = "s3://shop/broken.jpg"
IMAGES = (
    Image(GUN, [[0.875, 0.125]]),
    Image(KNIFE, [[0.53125]]),
    Image(NUDE, [[0.125, 0.875]]),
    Image(FACE, [[0.0625, 0.25]]),
)
"""block, review, block, allow"""
QUICK = Patience(attempts=4, first_wait_s=0.001, longest_wait_s=0.004, longest_pause_s=5.0, in_a_row=12)


def publish_images(output: Store, images: tuple[Image, ...] = IMAGES, **more: object) -> None:
    publish_vectors(output, images, POLICY, POLICY_TEXT, **more)  # type: ignore[arg-type]


def blocked(count: int) -> tuple[Image, ...]:
    """So many images, all of them blocked."""
    return tuple(Image(f"s3://shop/{number:04d}.jpg", [[0.875]]) for number in range(count))


def review(output: Store, image: Image, action: ReviewAction, minutes: int = 10) -> None:
    """A person decides about an image, some minutes after the run."""
    verdict = Verdict.VIOLATES if action is ReviewAction.BLOCK else Verdict.FINE
    decided = STARTED + timedelta(minutes=minutes)
    append(
        output,
        [
            Review(
                uri=image.uri,
                etag="v1",
                sha256=image.sha256,
                verdict=verdict,
                action=action,
                reason="toy",
                note="a private note",
                reviewer="alice",
                decided_at=decided,
                source=Source.API,
            )
        ],
    )


def target(text: str) -> Target:
    """A target as it is written in `actions.yaml`."""
    read = parse_actions(f"targets: [{text}]")
    assert read.actions is not None, read.findings
    return read.actions.targets[0]


def webhook(receiver: Receiver, more: str = "actions: [block]", timeout_s: float = 5.0, connections: int = 8) -> Target:
    return target(
        f"{{name: trust, {more}, webhook: {{url: '{receiver.url}', secret: {{env: KEY}}, timeout_s: {timeout_s}, "
        f"connections: {connections}}}}}"
    )


def resolve(secret: Secret) -> str:
    return KEY


def quick(patience: Patience = QUICK, batch: int = 500) -> Settings:
    return Settings(resolve, patience, lease_s=20.0, skew_s=0.0, batch=batch)

"""Published runs with random scores, made without Ray and without a model: many frames, errors, hostile names, two policies.

Prompts are unit vectors, the same for every policy, so that a cosine is one number of the embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.errors import ErrorCode
from moderation.planning.sharding import shard_name
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.schema import Policy
from moderation.policy_files.loading import parse_policy
from moderation.records import BatchSummary, ObjectRef, Shard
from moderation.results.manifest import Manifest, Timings
from moderation.results.paths import RunPaths
from moderation.results.publishing import publish
from moderation.results.shard_files import total, write_shard
from moderation.results.stored_prompts import keep_prompts
from moderation.scoring.decision_rows import Embedded, Failure, build_rows
from moderation.scoring.judging import RowContext
from moderation.storage import Store

DIM = 8
MODEL, OTHER_MODEL = "0123456789abcdef", "fedcba9876543210"
PROMPTS = ("a handgun", "a nude", "fireworks", "a beer", "a knife", "a wall")
FIRST, SECOND, THIRD = "20261101T030000Z-aaaaaa", "20261115T030000Z-bbbbbb", "20261120T030000Z-cccccc"

OLD_TEXT = """
policy: shop
version: "1"
model: {name: demo}
templates: ["{}"]
contrast: [a wall]
unreadable: review
rules:
  - {id: firearms, severity: high, prompts: [a handgun], score: similarity, review: 0.5, block: 0.75}
  - {id: nudity, severity: critical, prompts: [a nude], score: similarity, review: 0.5, block: 0.75}
  - {id: fireworks, severity: low, mode: shadow, prompts: [fireworks], score: similarity, review: 0.5}
  - {id: beer, prompts: [a beer], contrast: [a knife], score: contrast, review: 0.9}
  - {id: gone, prompts: [a knife], score: similarity, block: 0.9}
"""
NEW_TEXT = """
policy: shop
version: "2"
model: {name: demo}
templates: ["{}"]
contrast: [a wall]
unreadable: block
near: 0.1
rules:
  - {id: beer, prompts: [a beer, a knife], score: contrast, review: 0.7, block: 0.97}
  - {id: firearms, severity: high, prompts: [a handgun], score: similarity, review: 0.375, block: 0.8125}
  - {id: nudity, severity: critical, mode: shadow, prompts: [a nude], score: similarity, review: 0.5, block: 0.75}
  - {id: fireworks, severity: low, prompts: [fireworks], score: similarity, review: 0.5}
  - {id: resting, mode: off, prompts: [a car], score: similarity, review: 0.1}
"""
OLD, NEW = parse_policy(OLD_TEXT), parse_policy(NEW_TEXT)
HOSTILE = (
    "s3://shop/=1+1.jpg",
    's3://shop/it\'s "quoted", really.jpg',
    "s3://shop/users/new\nline \U0001f600\x1b[31m.jpg",
    "s3://shop/users/<b>[red].jpg",
    "s3://shop//twice//slashed.jpg",
)


@dataclass(frozen=True)
class Image:
    """An object with the embeddings of its frames [frames, DIM], or with an error."""

    ref: ObjectRef
    frames: NDArray[np.float16] | None
    error: ErrorCode | None = None
    sha256: str = "ab" * 32
    md5: str | None = None
    hashes: tuple[tuple[str, int], ...] = ()
    """PDQ and quality of each frame"""


@dataclass(frozen=True)
class Run:
    """What one run took up, in shards."""

    run_id: str
    policy: Policy
    images: Sequence[Image]
    shards: int = 3
    fingerprint: str = MODEL
    model: str = "demo"
    settings: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    """the policy's"""

    @property
    def started(self) -> datetime:
        return datetime.strptime(self.run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def some_images(count: int, seed: int = 0, errors: float = 0.1) -> list[Image]:
    """Random ones: half have several frames, some no scores. Scores are multiples of 1/32: many stand at a threshold."""
    random = np.random.default_rng(seed)
    names = [f"s3://shop/{('listings', 'users/a', 'users/b')[n % 3]}/{n:05}.jpg" for n in range(count)]
    names[: len(HOSTILE)] = HOSTILE[:count]
    images = []
    for name in names:
        modified = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=int(random.integers(0, 9 * 86_400)))
        ref = ObjectRef(name, f'"{random.integers(1 << 30):x}"', 1000, modified)
        if random.random() < errors:
            images.append(Image(ref, None, ErrorCode.CORRUPT))
            continue
        frames = int(random.choice([1, 1, 2, 5]))
        scores = random.integers(-8, 31, (frames, DIM)) / 32
        images.append(Image(ref, scores.astype(np.float16)))
    return images


def replaced(images: Sequence[Image], seed: int) -> list[Image]:
    """Other content under the same names."""
    others = some_images(len(images), seed)
    return [replace(new, ref=new.ref._replace(uri=old.ref.uri)) for old, new in zip(images, others, strict=True)]


def write_runs(output: Store, *runs: Run) -> None:
    """Publish runs, with their prompt embeddings."""
    for run in runs:
        keep_prompts(output, run.fingerprint, head(run.policy))
        paths = RunPaths(run.run_id, f"{run.started:%Y-%m-%d}", run.fingerprint)
        ordered = sorted(run.images, key=lambda image: image.ref.uri)
        receipts = [_write(output, run, paths, ordered[part :: run.shards]) for part in range(run.shards)]
        summary = total(BatchSummary(receipt.counts, receipt.seconds) for receipt in receipts)
        manifest = Manifest(
            run_id=run.run_id,
            started_at=run.started,
            published_at=run.started + timedelta(minutes=5),
            sources=("s3://shop",),
            policy=run.policy.policy,
            policy_version=run.policy.version,
            policy_hash=run.policy.hash,
            policy_text=run.text,
            model=run.model,
            model_fingerprint=run.fingerprint,
            device="cpu",
            settings=run.settings,
            listed=len(run.images),
            unchanged=0,
            counts=summary.counts,
            timings=Timings(wall_seconds=1.0, images_per_second=1.0, busy_seconds={}, bottleneck="decode"),
            checks=(),
            versions={},
            report=paths.report,
            files=tuple(entry for receipt in receipts for entry in receipt.files),
        )
        publish(output, paths, manifest, receipts)


def _write(output: Store, run: Run, paths: RunPaths, images: Sequence[Image]) -> Any:
    refs = tuple(image.ref for image in images)
    scored = [(image, image.frames) for image in images if image.frames is not None]
    embedded = [
        Embedded(
            image.ref,
            image.sha256,
            "GIF",
            640,
            480,
            10 * len(frames),
            tuple(range(0, 10 * len(frames), 10)),
            *(image.hashes[0] if image.hashes else (None, None)),
            md5=image.md5,
            frame_hashes=image.hashes,
        )
        for image, frames in scored
    ]
    vectors = np.concatenate([np.zeros((0, DIM), np.float16), *(frames for _, frames in scored)])
    failures = [
        Failure(image.ref, image.error, "it is broken", image.sha256, image.md5) for image in images if image.error is not None
    ]
    context = RowContext(run.run_id, compiled(run.policy), run.model, run.fingerprint)
    rows = build_rows(context, embedded, vectors, failures, run.started)
    return write_shard(Shard(shard_name(refs), refs), [rows], run.policy, DIM, paths, output)


def head(policy: Policy) -> TextHead:
    """Unit vectors, each prompt the same one under every policy."""
    basis = np.eye(DIM, dtype=np.float32)
    return TextHead({text: basis[PROMPTS.index(text)] for text in prompt_texts(policy)}, 10.0, None)


def compiled(policy: Policy) -> CompiledPolicy:
    """With these prompt embeddings."""
    return CompiledPolicy.build(policy, head(policy))


def policy_file(folder: Path, text: str, name: str = "policy.yaml") -> str:
    """The policy as a file."""
    (folder / name).write_text(text)
    return str(folder / name)

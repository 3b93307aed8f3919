"""A results folder whose embeddings are given number by number, made without Ray and without a model."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from published import DIM, MODEL, compiled

from moderation.errors import ErrorCode
from moderation.planning.sharding import shard_name
from moderation.policy.compiled import TextHead, prompt_texts
from moderation.policy.schema import Policy
from moderation.records import BatchSummary, ObjectRef, Shard
from moderation.results.manifest import Manifest, Timings
from moderation.results.paths import RunPaths
from moderation.results.publishing import publish
from moderation.results.shard_files import total, write_shard
from moderation.results.stored_prompts import keep_prompts
from moderation.scoring.decision_rows import Embedded, Failure, build_rows
from moderation.scoring.judging import RowContext
from moderation.storage import Store

RUN = "20261121T030000Z-abcdef"


@dataclass(frozen=True)
class Image:
    """One image; its embedding is [cosine with the first prompt, with the second ...], frame by frame."""

    uri: str
    frames: Sequence[Sequence[float]]
    content: str = ""
    """stands for its bytes; by default its URI"""
    pdq: str | None = None
    etag: str = "v1"

    @property
    def sha256(self) -> str:
        return hashlib.sha256((self.content or self.uri).encode()).hexdigest()


def publish_vectors(
    output: Store,
    images: Sequence[Image],
    policy: Policy,
    policy_text: str,
    *,
    broken: Sequence[str] = (),
    run_id: str = RUN,
    shards: int = 2,
    fingerprint: str = MODEL,
    etags: Mapping[str, str] | None = None,
) -> Manifest:
    """Publish a run over these images, whose prompts are unit vectors in the policy's order."""
    started = datetime.strptime(run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    paths = RunPaths(run_id, f"{started:%Y-%m-%d}", fingerprint)
    ready = compiled(policy)
    context = RowContext(run_id, ready, "demo", fingerprint)
    receipts = []
    everything = sorted([*images, *broken], key=lambda one: one if isinstance(one, str) else one.uri)
    for part in (everything[start::shards] for start in range(shards)):
        refs = [
            ObjectRef(one, (etags or {}).get(one, "v1"), 1000, started)
            if isinstance(one, str)
            else ObjectRef(one.uri, (etags or {}).get(one.uri, one.etag), 1000, started)
            for one in part
        ]
        chosen = [(one, ref) for one, ref in zip(part, refs, strict=True) if isinstance(one, Image)]
        failures = [
            Failure(ref, ErrorCode.CORRUPT, "broken") for one, ref in zip(part, refs, strict=True) if isinstance(one, str)
        ]
        embedded = [
            Embedded(ref, one.sha256, "GIF", 640, 480, len(one.frames), tuple(range(len(one.frames))), one.pdq, 100)
            for one, ref in chosen
        ]
        rows = [_vector(frame) for one, _ in chosen for frame in one.frames]
        vectors = np.stack(rows) if rows else np.zeros((0, DIM), np.float16)
        batch = build_rows(context, embedded, vectors, failures, started)
        shard = Shard(shard_name(tuple(refs)), tuple(refs))
        receipts.append(write_shard(shard, [batch], policy, DIM, paths, output))
    keep_prompts(output, fingerprint, _head(policy))
    summary = total(BatchSummary(receipt.counts, receipt.seconds) for receipt in receipts)
    manifest = Manifest(
        run_id=run_id,
        started_at=started,
        published_at=started,
        sources=("s3://shop",),
        policy=policy.policy,
        policy_version=policy.version,
        policy_hash=policy.hash,
        policy_text=policy_text,
        model="demo",
        model_fingerprint=fingerprint,
        device="cpu",
        settings={},
        listed=len(everything),
        unchanged=0,
        counts=summary.counts,
        timings=Timings(wall_seconds=1.0, images_per_second=1.0, busy_seconds={"decode": 1.0}, bottleneck="decode"),
        checks=(),
        versions={},
        report=paths.report,
        files=tuple(entry for receipt in receipts for entry in receipt.files),
    )
    publish(output, paths, manifest, receipts)
    return manifest


def _vector(frame: Sequence[float]) -> NDArray[np.float16]:
    """Of unit length: what is left of it lies in the last dimension, where no prompt points."""
    vector = np.zeros(DIM)
    vector[: len(frame)] = frame
    vector[-1] = np.sqrt(max(0.0, 1.0 - (vector**2).sum()))
    return vector.astype(np.float16)


def _head(policy: Policy) -> TextHead:
    basis = np.eye(DIM, dtype=np.float32)
    return TextHead(dict(zip(prompt_texts(policy), basis, strict=False)), 100.0, None)

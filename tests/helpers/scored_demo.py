"""A results folder made of real images, scored for real by the bundled model under the demo's policy, without Ray."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from moderation import ImageScorer, OpenClipEncoder, Store
from moderation.demo import POLICY_FILE
from moderation.planning.sharding import shard_name
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy_files.loading import read_policy
from moderation.records import BatchSummary, ObjectRef, Shard
from moderation.results.manifest import Manifest, Timings
from moderation.results.paths import RunPaths
from moderation.results.publishing import publish
from moderation.results.shard_files import total, write_shard
from moderation.results.stored_assets import assets_keys, keep_assets
from moderation.results.stored_exemplars import exemplars_key
from moderation.results.stored_prompts import keep_prompts, prompts_key
from moderation.scoring.exemplar_embeddings import embed_images, exemplar_embeddings
from moderation.scoring.image_scorer import text_head

RUN = "20261121T030000Z-abcdef"


def publish_scored(
    output: Store, images: Sequence[ObjectRef], policy_file: Path = POLICY_FILE, run_id: str = RUN, shard_size: int = 64
) -> Manifest:
    """Score these objects and publish them as one run."""
    read = read_policy(policy_file)
    policy = read.policy
    assert policy is not None, read.findings
    encoder = OpenClipEncoder(policy.model.name, policy.model.pretrained, device="cpu")
    head: TextHead = text_head(encoder, prompt_texts(policy))
    keep_prompts(output, encoder.fingerprint, head)
    keep_assets(output, policy.assets)
    images_of = exemplar_embeddings(output, encoder.fingerprint, policy, lambda images: embed_images(encoder, images))
    compiled = CompiledPolicy.build(policy, replace(head, images=images_of))
    started = datetime.strptime(run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    paths = RunPaths(run_id, f"{started:%Y-%m-%d}", encoder.fingerprint)
    receipts = []
    with ImageScorer(encoder, compiled, run_id=run_id) as scorer:
        for start in range(0, len(images), shard_size):
            objects = tuple(images[start : start + shard_size])
            shard = Shard(shard_name(objects), objects)
            receipts.append(write_shard(shard, [scorer.score(objects)], policy, encoder.dim, paths, output))
    summary = total(BatchSummary(receipt.counts, receipt.seconds) for receipt in receipts)
    texts = list(read.files.values())
    manifest = Manifest(
        run_id=run_id,
        started_at=started,
        published_at=started,
        sources=(images[0].uri.rpartition("/")[0],),
        policy=policy.policy,
        policy_version=policy.version,
        policy_hash=policy.hash,
        policy_text=texts[0],
        policy_includes=dict(list(read.files.items())[1:]),
        model=encoder.name,
        model_fingerprint=encoder.fingerprint,
        prompts=prompts_key(encoder.fingerprint, prompt_texts(policy)),
        assets=assets_keys(policy.assets),
        exemplars=exemplars_key(encoder.fingerprint, policy.assets.images) if policy.assets.images else None,
        device="cpu",
        settings={"policy": str(policy_file), "resize": encoder.preprocessing.resize},
        listed=len(images),
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


def objects_under(folder: Path) -> list[ObjectRef]:
    """What lies there, by key."""
    return [item for page in Store(str(folder)).list() for item in page]

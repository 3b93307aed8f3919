"""A results folder with known content, made without Ray and without a model: three runs, two policies, hostile names.

Every image is given as its scores: prompts are unit vectors, so that a cosine is one number of the embedding.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from moderation.errors import ErrorCode
from moderation.planning.sharding import shard_name
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.loading import parse_policy
from moderation.policy.schema import Policy
from moderation.records import BatchSummary, ObjectRef, Shard
from moderation.results.check_results import CheckResult
from moderation.results.manifest import Manifest, Timings
from moderation.results.paths import RunPaths
from moderation.results.publishing import publish, quarantine
from moderation.results.shard_files import Receipt, total, write_shard
from moderation.scoring.decision_rows import Embedded, Failure, build_rows
from moderation.scoring.judging import RowContext
from moderation.storage import Store

DIM = 8
MODEL = "0123456789abcdef"
FIRST, SECOND, THIRD = "20261120T030000Z-aaaaaa", "20261121T030000Z-bbbbbb", "20261122T030000Z-cccccc"

POLICY_TEXT = """
policy: shop
version: "1"
model: {name: demo}
near: 0.05
unreadable: review
rules:
  - {id: firearms, category: weapons, severity: high, prompts: [a handgun], score: similarity, review: 0.5, block: 0.75}
  - {id: nudity, category: adult, severity: critical, prompts: [a nude], score: similarity, review: 0.5, block: 0.75}
  - {id: fireworks, category: weapons, severity: low, mode: shadow, prompts: [fireworks], score: similarity, review: 0.5}
  - {id: beer, category: alcohol, prompts: [a beer], score: similarity, review: 0.5}
"""
OLD = parse_policy(POLICY_TEXT)
NEW = parse_policy(
    POLICY_TEXT.replace('version: "1"', 'version: "2"').replace("review: 0.5, block: 0.75", "review: 0.375, block: 0.625", 1)
)

Scores = tuple[float, ...]
"""of firearms, nudity, fireworks, beer: multiples of 1/32, which float16 holds exactly"""

GUN = "listings/gun.jpg"
HOSTILE = (
    "listings/=1+1.jpg",
    'listings/it\'s "quoted", really.jpg',
    "users/new\nline \U0001f600\x1b[31m.jpg",
    "users/<b>[red].jpg",
)
AT_FIRST: dict[str, Scores] = {
    GUN: (0.875, 0.125, 0.25, 0.0),
    "listings/knife.jpg": (0.53125, 0.0, 0.0, 0.0),
    "listings/party.jpg": (0.0, 0.25, 0.75, 0.5625),
    "users/nude.jpg": (0.125, 0.875, 0.0, 0.0),
    "users/both.jpg": (0.625, 0.8125, 0.0, 0.5),
    "users/face.jpg": (0.0625, 0.25, 0.0, 0.125),
    "users/almost.jpg": (0.46875, 0.0, 0.0, 0.0),
    **dict.fromkeys(HOSTILE, (0.0, 0.0, 0.0, 0.0)),
}
BROKEN = {"listings/broken.jpg": ErrorCode.CORRUPT, "users/gone.jpg": ErrorCode.NOT_FOUND}
REPLACED = {GUN: (0.25, 0.125, 0.25, 0.0), "listings/rifle.jpg": (0.9375, 0.0, 0.0, 0.0)}
HUGE = {"users/huge.png": ErrorCode.TOO_LARGE}


@dataclass(frozen=True)
class Job:
    """What one run took up."""

    run_id: str
    policy: Policy
    scored: dict[str, Scores]
    errors: dict[str, ErrorCode] = field(default_factory=dict)
    unchanged: int = 0
    etags: dict[str, str] = field(default_factory=dict)
    """of objects that were replaced"""
    checks: tuple[CheckResult, ...] = (CheckResult(name="rows_counted", description="", severity="fail", passed=True),)
    hashes: dict[str, str] = field(default_factory=dict)
    """SHA-256 of objects; others have the same one"""
    pdq: dict[str, str] = field(default_factory=dict)
    """perceptual hashes of objects; others have none"""


ODD = CheckResult(name="flag_rate", description="unusual", severity="warn", passed=False, unexpected=1)
REPLACED_ETAGS = dict.fromkeys(REPLACED, "v2")
JOBS = (
    Job(FIRST, OLD, AT_FIRST, BROKEN),
    Job(SECOND, OLD, REPLACED, HUGE, len(AT_FIRST) + len(BROKEN) - 1, REPLACED_ETAGS),
    Job(THIRD, NEW, {**AT_FIRST, **REPLACED}, {**BROKEN, **HUGE}, 0, REPLACED_ETAGS, (*Job.checks, ODD)),
)


def write_results(output: Store, jobs: tuple[Job, ...] = JOBS) -> None:
    """Publish these runs."""
    for job in jobs:
        paths, manifest, receipts = stage(output, job)
        publish(output, paths, manifest, receipts)


def write_debris(output: Store) -> None:
    """What readers must not see: a run that broke off between its files and its manifest, and one whose checks failed."""
    paths, _, receipts = stage(output, Job("20261123T030000Z-dddddd", OLD, AT_FIRST))
    for receipt in receipts:
        for entry in receipt.files:
            output.copy(paths.staged(receipt.attempt, entry.path), entry.path)
    quarantine(output, *stage(output, Job("20261124T030000Z-eeeeee", OLD, AT_FIRST)))


def stage(output: Store, job: Job) -> tuple[RunPaths, Manifest, list[Receipt]]:
    """The rows of a run in two shards, and its manifest."""
    started = datetime.strptime(job.run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    paths = RunPaths(job.run_id, f"{started:%Y-%m-%d}", MODEL)
    receipts = [_shard(output, job, paths, started, part) for part in (0, 1)]
    summary = total(BatchSummary(receipt.counts, receipt.seconds) for receipt in receipts)
    processed = len(job.scored) + len(job.errors)
    manifest = Manifest(
        run_id=job.run_id,
        started_at=started,
        published_at=started + timedelta(minutes=5),
        sources=("s3://shop",),
        policy=job.policy.policy,
        policy_version=job.policy.version,
        policy_hash=job.policy.hash,
        policy_text=POLICY_TEXT,
        model="test",
        model_fingerprint=MODEL,
        device="cpu",
        settings={},
        listed=processed + job.unchanged,
        unchanged=job.unchanged,
        counts=summary.counts,
        timings=Timings(wall_seconds=2.0, images_per_second=processed / 2.0, busy_seconds={"decode": 1.5}, bottleneck="decode"),
        checks=job.checks,
        versions={},
        report=paths.report,
        files=tuple(entry for receipt in receipts for entry in receipt.files),
    )
    return paths, manifest, receipts


def _shard(output: Store, job: Job, paths: RunPaths, started: datetime, part: int) -> Receipt:
    names = sorted([*job.scored, *job.errors])[part::2]
    objects = {name: ObjectRef(f"s3://shop/{name}", job.etags.get(name, "v1"), 1000, started) for name in names}
    shard = Shard(shard_name(tuple(objects.values())), tuple(objects.values()))
    scored = [name for name in names if name in job.scored]
    embedded = [
        Embedded(
            objects[name],
            job.hashes.get(name, "ab" * 32),
            "JPEG",
            640,
            480,
            1,
            (0,),
            job.pdq.get(name),
            90 if name in job.pdq else None,
        )
        for name in scored
    ]
    failures = [
        Failure(objects[name], job.errors[name], f"=it is {job.errors[name].value}") for name in names if name in job.errors
    ]
    vectors = np.zeros((len(scored), DIM), np.float16)
    vectors[:, :4] = np.array([job.scored[name] for name in scored], np.float16).reshape(-1, 4)
    context = RowContext(job.run_id, compiled(job.policy), "test", MODEL)
    rows = build_rows(context, embedded, vectors, failures, started + timedelta(minutes=1))
    return write_shard(shard, [rows], job.policy, DIM, paths, output)


def compiled(policy: Policy) -> CompiledPolicy:
    """A policy whose prompts are unit vectors, in order."""
    basis = np.eye(DIM, dtype=np.float32)
    return CompiledPolicy.build(policy, TextHead(dict(zip(prompt_texts(policy), basis, strict=False)), 100.0, None))

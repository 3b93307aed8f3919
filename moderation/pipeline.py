"""The pipeline, top to bottom: start here.

    list ─► plan shards ─► fetch ─► decode ─► embed ─► score ─► decide ─► check ─► publish ─► report
    └─ driver ──────────┘ └── Ray actor (one per GPU) ─────────────────┘ └─ driver + Ray tasks ────┘

`run` does all of it. `flows/moderate.py` calls the same stages, one Prefect task each.
"""

import contextlib
import logging
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from moderation.ahead import ahead
from moderation.errors import ModelError, OutputError, QuarantinedError, RunError, SourceError, StorageError
from moderation.images.sources import skipped_in
from moderation.inputs import Inputs, check_inputs, claim_run
from moderation.logs import about
from moderation.model.engines import MAX_BATCH
from moderation.planning import Tally, plan_shards, plan_stored
from moderation.policy.loading import located
from moderation.policy.scoring import CompiledPolicy, TextHead, prompt_texts
from moderation.progress import Progress, tell
from moderation.prompt_embeddings import compiled_for
from moderation.quality.facts import ExpectedRows, RunFacts
from moderation.quality.staged import groups, planned_shards
from moderation.quality.verdicts import Verdict, merge
from moderation.records import Batch, Counts
from moderation.report.build import build_report
from moderation.results.aggregates import Aggregates
from moderation.results.archive import open_archive
from moderation.results.checks import CheckResult
from moderation.results.history import earlier_runs
from moderation.results.ledger import read_ledger
from moderation.results.manifest import Manifest, Timings, find_manifest, published_manifests
from moderation.results.paths import RunPaths
from moderation.results.plan import Page
from moderation.results.prompts import keep_prompts, prompts_key
from moderation.results.publishing import alone, publish, quarantine
from moderation.results.shard_files import Receipt
from moderation.results.statistics import rule_statistics
from moderation.scoring import tasks
from moderation.scoring.cluster import check_folders
from moderation.scoring.flips import FlipCheck
from moderation.scoring.judging import RowContext
from moderation.scoring.pool import ScoredRef, ScorerPool
from moderation.scoring.scorer import ModelDescription
from moderation.scoring.session import PoolPlan, plan_pool, ray_session
from moderation.scoring.sizing import decode_threads
from moderation.scoring.worker import OpenClipScorer
from moderation.scoring.workforce import Workforce
from moderation.settings import RunSettings
from moderation.staging import Staging, keeping
from moderation.storage import Skipped, Store
from moderation.versions import versions

_log = logging.getLogger(__name__)

SHARDS_AHEAD = 2
"""Shards listed and planned ahead of those being scored."""
MAX_CHECKING = 2
"""Shards being checked at a time; each takes a process of its own."""
SHARD_SIZE_GPU, SHARD_SIZE_CPU = 20_000, 1_000


def run(settings: RunSettings) -> "Outcome":
    """Moderate everything that `settings.sources` name and publish the results.

    Raises:
        UserError: a setting, the policy, the source, the output or the model; nothing was published.
        QuarantinedError: quality checks failed; the run lies under `_quarantine/`.
        RunError: the run could not be finished; give its run id to go on with it.
    """
    inputs = check_inputs(settings)
    with session(inputs) as running:
        scored = score(running)
        checks = check(running, scored)
        manifest = release(running, scored, checks)
        return report(running, scored, manifest)


@dataclass(frozen=True)
class Session:
    """A run that is under way: its inputs, its workers, and what does not change while it lasts."""

    inputs: Inputs
    pool: ScorerPool | None
    """None where nothing but stored embeddings is taken up"""
    plan: PoolPlan
    model: ModelDescription
    compiled: CompiledPolicy
    paths: RunPaths
    started_at: datetime

    @property
    def settings(self) -> RunSettings:
        """The run's settings."""
        return self.inputs.settings

    @property
    def workforce(self) -> Workforce:
        """What it works with."""
        return Workforce(self.settings, self.plan, self.model.engine)


@dataclass(frozen=True)
class Scored:
    """What the scoring stage leaves: staged shards and their sums."""

    receipts: tuple[Receipt, ...]
    listed: int
    named: int
    """objects that were to be listed, by the sources' own count"""
    unchanged: int
    repeated: int
    skipped: Skipped
    decided_anew: int
    counts: Counts
    aggregates: Aggregates
    seconds: dict[str, float]
    wall_seconds: float
    earlier: int
    """objects that earlier attempts at the run scored, or gave an error row"""
    flips: FlipCheck | None
    """int8 beside fp32; None in other precisions, or if nothing was scored"""

    @property
    def rows(self) -> dict[str, int]:
        """Rows in the staged files, by table."""
        counted = Counter[str]()
        for receipt in self.receipts:
            counted.update({entry.table: entry.rows for entry in receipt.files})
        return dict(counted)


@dataclass(frozen=True)
class Outcome:
    """A published run."""

    manifest: Manifest
    output: str
    report: str | None
    """URI of the report; None if it could not be made"""
    plan: str
    """how the machines were used, in words"""


def published(inputs: Inputs) -> Outcome | None:
    """The run that the settings name, if an earlier attempt published it."""
    output, run_id = inputs.output, inputs.settings.run_id
    manifest = find_manifest(output, run_id) if run_id else None
    if manifest is None:
        return None
    report = output.uri_of(manifest.report) if output.exists(manifest.report) else None
    return Outcome(manifest, output.uri, report, "published by an earlier attempt")


@contextlib.contextmanager
def session(inputs: Inputs) -> Iterator[Session]:
    """Start workers, load the model in them and embed the prompts."""
    settings, policy = inputs.settings, inputs.policy
    tell(Progress("starting Ray"))
    with ray_session(settings.ray_address, settings.run_id):
        check_folders(inputs.source_uris, inputs.output.uri)
        if settings.from_embeddings:
            running = _without_pool(inputs)
            with alone(inputs.output, running.paths):
                yield running
            return
        plan = plan_pool(settings)
        scorer = OpenClipScorer(
            model=policy.model,
            reader=inputs.reader,
            device="cuda" if plan.gpus else "cpu",
            precision=settings.precision,
            limits=settings.limits,
            fetch_threads=settings.fetch_threads,
            decode_threads=decode_threads(settings, plan),
            torch_threads=plan.torch_threads,
            engine=settings.engine,
            jpeg_decoder=settings.jpeg_decoder,
            max_batch=min(MAX_BATCH, settings.batch_size),
            gpu_share=plan.gpus or 1.0,
        )
        with ScorerPool(scorer, plan, settings.batch_timeout_s) as pool:
            tell(Progress("loading the model"))
            try:
                model = pool.describe(prompt_texts(policy))
            except ModelError as error:
                raise located(settings.policy, error) from None
            if model.engine is not None and model.engine.warning:
                _log.warning("%s", model.engine.warning)
            paths, started_at = claim_run(inputs, model.fingerprint)
            with _writing_to(inputs.output, paths.run_id):
                head = keep_prompts(inputs.output, model.fingerprint, model.head)
            compiled = CompiledPolicy.build(policy, head)
            with alone(inputs.output, paths):
                yield Session(inputs, pool, plan, model, compiled, paths, started_at)


def _without_pool(inputs: Inputs) -> Session:
    """A run that decides anew on what is stored: neither images nor, where the prompts are known, the model are needed."""
    policy = inputs.policy
    archive = open_archive(inputs.output, policy.model.label)
    compiled = compiled_for(policy, archive)
    head = TextHead({}, compiled.logit_scale, compiled.logit_bias)
    model = ModelDescription(archive.used.model, archive.fingerprint, compiled.weights.shape[1], "none", head)
    return Session(inputs, None, PoolPlan(0, 0.0, 0.0), model, compiled, *claim_run(inputs, archive.fingerprint))


def score(running: Session) -> Scored:
    """List, plan, and score; every shard ends up staged with a receipt."""
    settings, inputs, paths = running.settings, running.inputs, running.paths
    about(paths.run_id, "scoring")
    _log.info("run %s of policy %s", paths.run_id, inputs.policy.policy)
    with _writing_to(inputs.output, paths.run_id):
        ledger = None
        if settings.from_embeddings or not settings.full:
            ledger = read_ledger(inputs.output, inputs.policy.hash, running.model.fingerprint, settings.retry_errors)
        shard_size = settings.shard_size or (SHARD_SIZE_GPU if running.plan.gpus else SHARD_SIZE_CPU)
        tally = Tally()
        staging = Staging(inputs.policy, running.model.dim, paths, inputs.output, settings.batch_size)
        engine = running.model.engine
        context = RowContext(paths.run_id, running.compiled, running.model.name, running.model.fingerprint, engine)
        flips: list[FlipCheck] = []
        began = time.monotonic()

        def to_score(pages: Iterator[Page]) -> Iterator[Batch]:
            """Batches for the actors. What is stored goes to tasks meanwhile."""
            for page in pages:
                if page.shard is not None and page.stored:
                    staging.decide(page.shard, page.stored, context)
                    tell(_progress(running, tally, staging))
                elif page.shard is not None:
                    yield from staging.open(page.shard)

        def score_all(batches: Iterator[Batch]) -> None:
            if running.pool is not None and engine is not None and engine.precision == "int8" and not flips:
                batches = _compared(batches, running.pool, context, flips)
            for scored in running.pool.score(batches, context) if running.pool is not None else _nothing_of(batches):
                staging.add(scored.batch, scored.summary, scored.rows)
                tell(_progress(running, tally, staging))
            staging.finish()

        if settings.from_embeddings and ledger is not None:
            pages = plan_stored(inputs, paths, ledger, tally)
        else:
            pages = plan_shards(inputs, paths, shard_size, ledger, tally)
        with keeping(staging, paths.run_id), contextlib.closing(ahead(pages, SHARDS_AHEAD)) as planned:
            score_all(to_score(planned))
        while staging.has_lost:
            if running.pool is None:
                reason = staging.lost_embeddings or "rows were lost with a machine of the Ray cluster"
                raise RunError(f"{reason}; nothing was published: once it is mended, go on with --run-id {paths.run_id}")
            with keeping(staging, paths.run_id):
                score_all(staging.lost())
        if tally.listed == 0 and settings.modified_since is None:
            inputs.output.delete_folder(paths.staging)
            names = " and ".join(inputs.source_uris)
            raise SourceError(f"there is nothing to moderate: {names} names no object that `include` and `exclude` choose")
        tell(_progress(running, tally, staging))
    skipped = skipped_in(inputs.sources)
    if any(skipped):
        _log.warning("left out: %s; a linked folder is moderated where it is named as a source itself", skipped)
    return Scored(
        receipts=tuple(sorted(staging.receipts, key=lambda r: r.shard)),
        listed=tally.listed,
        named=tally.named,
        unchanged=tally.unchanged,
        repeated=tally.repeated,
        skipped=skipped,
        decided_anew=staging.decided_anew,
        counts=staging.counts,
        aggregates=staging.aggregates,
        seconds={"list": tally.seconds, **staging.staged_seconds},
        wall_seconds=time.monotonic() - began,
        earlier=staging.earlier,
        flips=flips[0] if flips else None,
    )


def _compared(batches: Iterator[Batch], pool: ScorerPool, context: RowContext, flips: list[FlipCheck]) -> Iterator[Batch]:
    """The same batches, once int8 was compared with fp32 on the first with an image. Raises `ModelError`: int8 is refused."""
    waiting: list[Batch] = []
    tell(Progress("comparing int8 with fp32"))
    for batch in batches:
        waiting.append(batch)
        found = pool.check(batch, context)
        if found is not None and found.images:
            found.accept()
            flips.append(found)
            break
    return chain(waiting, batches)


def _nothing_of(batches: Iterator[Batch]) -> Iterator[ScoredRef]:
    """What is scored where there are no actors: only what else the iterator does counts."""
    for batch in batches:
        raise RunError(f"the shard {batch.shard} is to be scored, but this run decides on stored embeddings only")
    yield from ()


def check(running: Session, scored: Scored) -> tuple[CheckResult, ...]:
    """Quality checks: every shard's rows, then the sums of the run."""
    tell(Progress("checking"))
    about(running.paths.run_id, "checking")
    with _writing_to(running.inputs.output, running.paths.run_id):
        return _check(running, scored)


def _check(running: Session, scored: Scored) -> tuple[CheckResult, ...]:
    inputs, paths = running.inputs, running.paths
    output, limits = inputs.output, inputs.quality
    expected = ExpectedRows(paths.run_id, inputs.policy, running.model.fingerprint)
    plans = planned_shards(output, paths)
    verdicts: tuple[Verdict, ...] = ()
    pending: list[Any] = []
    for group in groups(scored.receipts, plans):
        pending.append(tasks.start_checking(group, paths, output, expected, limits))
        done, pending = tasks.finished(pending, block=len(pending) >= MAX_CHECKING)
        for reference in done:
            verdicts = merge(verdicts, tasks.result(reference))
    for reference in pending:
        verdicts = merge(verdicts, tasks.result(reference))
    facts = RunFacts(
        expected=expected,
        listed=scored.listed,
        named=scored.named,
        unchanged=scored.unchanged,
        counts=scored.counts,
        aggregates=scored.aggregates,
        rows=scored.rows,
        planned_shards=frozenset(plans),
        staged_shards=frozenset(receipt.shard for receipt in scored.receipts),
        may_be_empty=running.settings.modified_since is not None,
    )
    verdicts = merge(verdicts, tasks.checked_run(facts, limits, output))
    tasks.written_data_docs(verdicts, paths, inputs.policy.policy, output)
    return tuple(verdict.result for verdict in verdicts)


def release(running: Session, scored: Scored, checks: tuple[CheckResult, ...]) -> Manifest:
    """Publish the run, or set it aside if a check failed. Raises `QuarantinedError`."""
    tell(Progress("publishing"))
    about(running.paths.run_id, "publishing")
    manifest = _manifest(running, scored, checks)
    output, paths = running.inputs.output, running.paths
    failed = [c for c in checks if not c.passed and c.severity == "fail"]
    if failed:
        place = quarantine(output, paths, manifest, scored.receipts)
        page = _report(running, scored, manifest.model_copy(update={"state": "quarantined"}))
        reasons = "\n".join(f"  - {check}" for check in failed)
        results = shlex.quote(output.uri.removeprefix("file://"))
        _log.info("quarantined", extra={"reason": [str(check) for check in failed]})
        raise QuarantinedError(
            f"the run {paths.run_id} was not published; quality checks failed:\n{reasons}\n"
            f"it lies at {place}, its report at {page}; publish it after all or remove it:\n"
            f"  moderate runs release {paths.run_id} --results {results} --reason 'why it is right' --by 'your name'\n"
            f"  moderate runs discard {paths.run_id} --results {results}"
        )
    publish(output, paths, manifest, scored.receipts)
    _log.info("published", extra={"listed": manifest.listed, "scored": manifest.scored, "errors": manifest.errored})
    return manifest


def report(running: Session, scored: Scored, manifest: Manifest) -> Outcome:
    """Write the HTML report. A run stays published if that fails."""
    tell(Progress("writing the report"))
    about(running.paths.run_id, "reporting")
    return Outcome(manifest, running.inputs.output.uri, _report(running, scored, manifest), str(running.workforce))


def _report(running: Session, scored: Scored, manifest: Manifest) -> str | None:
    inputs, limits = running.inputs, running.settings.limits
    try:
        earlier = earlier_runs(published_manifests(inputs.output), manifest)
    except (StorageError, OutputError) as error:
        _log.warning("the report of run %s could not be written, since earlier runs cannot be read: %s", manifest.run_id, error)
        return None
    return build_report(
        manifest,
        inputs.policy,
        scored.aggregates,
        inputs.reader,
        inputs.output,
        limits,
        earlier=earlier,
        data_docs="data-docs/index.html",
    )


def _manifest(running: Session, scored: Scored, checks: tuple[CheckResult, ...]) -> Manifest:
    policy, paths = running.inputs.policy, running.paths
    images = scored.counts.scored + scored.counts.errors - scored.earlier
    return Manifest(
        run_id=paths.run_id,
        started_at=running.started_at,
        published_at=datetime.now(UTC),
        sources=running.inputs.source_uris,
        policy=policy.policy,
        policy_version=policy.version,
        policy_hash=policy.hash,
        unreadable=policy.unreadable.value,
        unsupported=policy.unsupported.value if policy.unsupported else None,
        policy_text=next(iter(running.inputs.policy_files.values())),
        policy_includes=dict(list(running.inputs.policy_files.items())[1:]),
        policy_folder=policy.model.folder,
        model=running.model.name,
        model_fingerprint=running.model.fingerprint,
        prompts=prompts_key(running.model.fingerprint, prompt_texts(policy)),
        device=running.model.device,
        engine=running.workforce.facts(scored.flips),
        settings=running.settings.model_dump(mode="json", exclude={"run_id"}),
        listed=scored.listed,
        unchanged=scored.unchanged,
        repeated=scored.repeated,
        linked_folders=scored.skipped.linked_folders,
        special_files=scored.skipped.special_files,
        decided_anew=scored.decided_anew,
        counts=scored.counts,
        timings=Timings(
            wall_seconds=round(scored.wall_seconds, 3),
            images_per_second=round(images / max(scored.wall_seconds, 1e-9), 2),
            images=images,
            busy_seconds={stage: round(seconds, 3) for stage, seconds in scored.seconds.items()},
            bottleneck=running.workforce.bottleneck(scored.seconds),
            threads=running.workforce.threads,
        ),
        checks=checks,
        statistics=rule_statistics(scored.aggregates, scored.counts),
        versions=versions(),
        report=paths.report,
        files=tuple(entry for receipt in scored.receipts for entry in receipt.files),
    )


def _progress(running: Session, tally: Tally, staging: Staging) -> Progress:
    return Progress(
        "scoring",
        planned=tally.planned,
        done=staging.done,
        earlier=staging.earlier,
        errors=staging.errors,
        listing=not tally.complete,
        bottleneck=running.workforce.bottleneck({"list": tally.seconds, **staging.seconds}),
    )


@contextlib.contextmanager
def _writing_to(output: Store, run_id: str) -> Iterator[None]:
    """What storage says no to here is the output's: sources have errors of their own."""
    try:
        yield
    except StorageError as error:
        raise OutputError(
            f"the output {output.uri} failed: {error.detail}; nothing was published: "
            f"once it is mended, go on with --run-id {run_id}"
        ) from None

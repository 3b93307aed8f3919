"""Listing, planning and scoring: every shard of the run ends up staged, with a receipt."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from moderation.cluster import tasks
from moderation.cluster.planning_processes import planning_helpers
from moderation.cluster.pool import ScorerPool
from moderation.cluster.staging import Staging, keeping
from moderation.common.logs import about
from moderation.common.prefetch import ahead
from moderation.common.progress import Progress, tell
from moderation.errors import RunError, SourceError
from moderation.planning.plan import Page
from moderation.planning.planner import Tally, plan_shards, plan_stored
from moderation.records import Batch, Counts
from moderation.results.aggregates import Aggregates
from moderation.results.ledger import read_ledger
from moderation.results.shard_files import Receipt
from moderation.scoring.flips import FlipCheck
from moderation.scoring.judging import RowContext
from moderation.sources import skipped_in
from moderation.stages.session import Session, writing_to
from moderation.storage import Skipped

_log = logging.getLogger(__name__)

SHARDS_AHEAD = 2
"""Shards listed and planned ahead of those being scored."""
SHARD_SIZE_GPU, SHARD_SIZE_CPU = 20_000, 1_000


@dataclass(frozen=True)
class Scored:
    """What the scoring stage leaves: staged shards and their sums."""

    receipts: tuple[Receipt, ...]
    listed: int
    named: int
    """objects to list, as counted by the sources"""
    unchanged: int
    repeated: int
    skipped: Skipped
    redecided: int
    counts: Counts
    aggregates: Aggregates
    seconds: dict[str, float]
    wall_seconds: float
    earlier: int
    """objects that earlier attempts at the run scored, or gave an error row"""
    flips: FlipCheck | None
    """int8 compared with fp32; None in other precisions, or if nothing was scored"""

    @property
    def rows(self) -> dict[str, int]:
        """Rows in the staged files, by table."""
        counted = Counter[str]()
        for receipt in self.receipts:
            counted.update({entry.table: entry.rows for entry in receipt.files})
        return dict(counted)


def score(running: Session) -> Scored:
    """List, plan, and score; every shard ends up staged with a receipt."""
    about(running.paths.run_id, "scoring")
    _log.info("run %s of policy %s", running.paths.run_id, running.inputs.policy.policy)
    with writing_to(running.output, running.paths.run_id):
        work = _Work(running)
        began = time.monotonic()
        with work.keeping(), work.plan() as plan, contextlib.closing(ahead(plan, SHARDS_AHEAD)) as pages:
            work.score(work.batches(pages))
        while work.staging.has_lost:
            with work.keeping():
                work.score(work.lost_batches())
        work.refuse_if_empty()
        return work.result(time.monotonic() - began)


class _Work:
    """The shards of a run on their way from the plan, through the actors, to staged files."""

    def __init__(self, running: Session) -> None:
        inputs, model = running.inputs, running.model
        self._running = running
        self._context = RowContext(running.paths.run_id, running.compiled, model.name, model.fingerprint, model.engine)
        self._shared_context: Any = None
        self._tally = Tally()
        self._flips: FlipCheck | None = None
        plan, batch_size = running.plan, running.settings.batch_size
        cores = plan.actors * plan.cpus
        self.staging = Staging(inputs.policy, model.dim, running.paths, running.output, batch_size, cores)

    @contextlib.contextmanager
    def plan(self) -> Iterator[Iterator[Page]]:
        """The shards of the run, each stored in the plan before it is handed out."""
        inputs, settings, paths = self._running.inputs, self._running.settings, self._running.paths
        fingerprint = self._running.model.fingerprint
        if settings.from_embeddings:
            ledger = read_ledger(inputs.output, inputs.policy.hash, fingerprint, settings.retry_errors)
            yield plan_stored(inputs, paths, ledger, self._tally)
            return
        shard_size = settings.shard_size or (SHARD_SIZE_GPU if self._running.plan.gpus else SHARD_SIZE_CPU)
        with planning_helpers(inputs, paths, fingerprint) as helpers:
            yield plan_shards(inputs, paths, shard_size, helpers, self._tally)

    def batches(self, pages: Iterator[Page]) -> Iterator[Batch]:
        """Batches for the actors. Shards with stored embeddings go to tasks meanwhile, which re-decide them."""
        for page in pages:
            if page.shard is None:
                continue
            if page.stored:
                if self._shared_context is None:
                    self._shared_context = tasks.shared(self._context)
                self.staging.decide(page.shard, page.stored, self._shared_context)
                self._tell()
            else:
                yield from self.staging.open(page.shard)

    def lost_batches(self) -> Iterator[Batch]:
        """Batches of shards whose rows were lost with a machine, or whose stored embeddings cannot be read."""
        if self._running.pool is None:
            reason = self.staging.lost_embeddings or "rows were lost with a machine of the Ray cluster"
            run_id = self._running.paths.run_id
            raise RunError(f"{reason}; nothing was published: fix that, then resume with --run-id {run_id}")
        return self.staging.lost()

    def score(self, batches: Iterator[Batch]) -> None:
        """Have the actors score batches and stage their rows, until the last shard is written."""
        pool = self._running.pool
        if pool is None:
            _refuse_any(batches)
        else:
            self._score_in(pool, batches)
        self.staging.finish()

    def _score_in(self, pool: ScorerPool, batches: Iterator[Batch]) -> None:
        engine = self._context.engine
        if engine is not None and engine.precision == "int8" and self._flips is None:
            batches = self._compared(batches, pool)
        for scored in pool.score(batches, self._context):
            self.staging.add(scored.batch, scored.summary, scored.rows)
            self._tell()

    def _compared(self, batches: Iterator[Batch], pool: ScorerPool) -> Iterator[Batch]:
        """The same batches, after the first with a readable image was scored in int8 and in fp32. Raises `ModelError`."""
        waiting: list[Batch] = []
        tell(Progress("comparing int8 with fp32"))
        for batch in batches:
            waiting.append(batch)
            flips = pool.check(batch, self._context)
            if flips is not None and flips.images:
                flips.accept()
                self._flips = flips
                break
        return chain(waiting, batches)

    def keeping(self) -> contextlib.AbstractContextManager[None]:
        """A block after which all that is scored by then is staged, even if the store of a source is down."""
        return keeping(self.staging, self._running.paths.run_id)

    def refuse_if_empty(self) -> None:
        """Raise `SourceError` if the sources name no object at all."""
        if self._tally.listed or self._running.settings.modified_since is not None:
            return
        self._running.output.delete_folder(self._running.paths.staging)
        names = " and ".join(self._running.inputs.source_uris)
        raise SourceError(f"there is nothing to moderate: {names} has no object that `include` and `exclude` select")

    def result(self, wall_seconds: float) -> Scored:
        """The sums of all staged shards."""
        self._tell()
        skipped = skipped_in(self._running.inputs.sources)
        if any(skipped):
            _log.warning("skipped: %s; to moderate a linked folder, name it as a source", skipped)
        tally, staging = self._tally, self.staging
        return Scored(
            receipts=tuple(sorted(staging.receipts, key=lambda r: r.shard)),
            listed=tally.listed,
            named=tally.named,
            unchanged=tally.unchanged,
            repeated=tally.repeated,
            skipped=skipped,
            redecided=staging.redecided,
            counts=staging.counts,
            aggregates=staging.aggregates,
            seconds={"list": tally.seconds, **staging.staged_seconds},
            wall_seconds=wall_seconds,
            earlier=staging.earlier,
            flips=self._flips,
        )

    def _tell(self) -> None:
        tally, staging = self._tally, self.staging
        tell(
            Progress(
                "scoring",
                planned=tally.planned,
                done=staging.done,
                earlier=staging.earlier,
                errors=staging.errors,
                listing=not tally.complete,
                bottleneck=self._running.workforce.bottleneck({"list": tally.seconds, **staging.seconds}),
            )
        )


def _refuse_any(batches: Iterator[Batch]) -> None:
    """Without actors there is nothing to score: the iterator only sends stored shards to tasks."""
    for batch in batches:
        raise RunError(f"the shard {batch.shard} needs scoring, but this run only re-decides from stored embeddings")

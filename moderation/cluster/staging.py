"""Gathers scored batches into shards and has them written, a few at a time."""

import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from moderation.cluster import tasks
from moderation.errors import ModerationError, RunError, StoreDownError
from moderation.planning.sharding import batches
from moderation.policy.assets import Assets
from moderation.policy.schema import Policy
from moderation.records import Batch, BatchSummary, Counts, Shard, add_numbers
from moderation.results.aggregates import Aggregates
from moderation.results.paths import RunPaths
from moderation.results.shard_files import Receipt
from moderation.results.stored_images import StoredShard
from moderation.storage import Store

_log = logging.getLogger(__name__)

MAX_WRITING = 4
"""Maximum number of shards being written, waiting to be written, or re-decided at the same time."""
CORES_PER_WRITER = 4
"""Each shard being written has its own process, whose start takes some seconds of a core."""
LOOK_S = 0.1
"""Seconds between two looks at what is being written: each costs as much as handing out a batch."""
MAX_LOSSES = 5
"""Times that the rows of one shard may be lost."""


@dataclass
class _OpenShard:
    shard: Shard
    redecided: bool = False
    """whether it is being decided from stored embeddings"""
    missing: int = 0
    rows: list[Any] = field(default_factory=list)
    losses: int = 0

    def reset(self) -> None:
        self.missing, self.rows = len(self.shard.objects), []


class Staging:
    """The shards of a run on their way to storage. A staged shard has a receipt; a resumed run skips those."""

    def __init__(
        self, policy: Policy, dim: int, paths: RunPaths, output: Store, batch_size: int, cores: float = math.inf
    ) -> None:
        self._writers = max(1, int(min(MAX_WRITING, cores / CORES_PER_WRITER)))
        # What writes shards looks at rules only: lists of a million hashes need not travel with each shard.
        self._policy = policy.with_assets(Assets())
        self._dim, self._paths, self._output = dim, paths, output
        self._batch_size = batch_size
        self._open: dict[str, _OpenShard] = {}
        self._complete: deque[_OpenShard] = deque()
        self._writing: dict[Any, _OpenShard] = {}
        self._lost: list[_OpenShard] = []
        self._staged = {item.uri for page in output.list(f"{paths.staging}receipts/") for item in page}
        self._next_look = 0.0
        self.receipts: list[Receipt] = []
        self.counts = Counts()
        self.aggregates = Aggregates()
        self.staged_seconds: dict[str, float] = {}
        """busy seconds by stage of the shards that this attempt staged"""
        self.seconds: dict[str, float] = {}
        """busy seconds by stage of this attempt"""
        self.redecided = 0
        """objects decided from stored embeddings"""
        self.lost_embeddings = ""
        """why stored embeddings were not available, if they were not"""
        self.done = 0
        """objects scored or errored, staged or not, those of earlier attempts too"""
        self.earlier = 0
        """of these, the ones of earlier attempts"""
        self.errors = 0

    def open(self, shard: Shard) -> Iterator[Batch]:
        """The batches of a shard; none if an earlier attempt staged it."""
        if not self._is_staged(shard):
            yield from self._begin(_OpenShard(shard))

    def decide(self, shard: Shard, stored: Sequence[StoredShard], context: Any) -> None:
        """Re-decide a shard from the files with its embeddings, unless an earlier attempt staged it.

        `context`: a `RowContext`, or a reference to one (`tasks.shared`).
        """
        if self._is_staged(shard):
            return
        reference = tasks.start_deciding(shard, stored, context, self._paths, self._output)
        self._writing[reference] = _OpenShard(shard, redecided=True)
        self._collect(block=len(self._writing) >= MAX_WRITING)

    def add(self, batch: Batch, summary: BatchSummary, rows: Any) -> None:
        """Take in a scored batch, whose rows are behind a Ray reference; the last one of a shard has it written."""
        holder = self._open[batch.shard]
        holder.rows.append(rows)
        holder.missing -= len(batch.objects)
        self.done += len(batch.objects)
        self.errors += summary.counts.errors
        self.seconds = add_numbers(self.seconds, summary.seconds)
        if holder.missing == 0:
            del self._open[batch.shard]
            self._complete.append(holder)
            self._write()
        full = len(self._writing) + len(self._complete) >= MAX_WRITING
        if full or time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            self._collect(block=full)

    def finish(self) -> None:
        """Wait until everything handed in is staged, or lost."""
        while self._writing:
            self._collect(block=True)

    @property
    def has_lost(self) -> bool:
        """Whether there are shards to be scored again."""
        return bool(self._lost)

    def lost(self) -> Iterator[Batch]:
        """The batches of shards whose rows went away with a machine, to be scored again."""
        while self._lost:
            yield from self._begin(self._lost.pop())

    def _is_staged(self, shard: Shard) -> bool:
        key = self._paths.receipt(shard.name)
        if self._output.uri_of(key) not in self._staged:
            return False
        receipt = Receipt.model_validate_json(self._output.get(key))
        self.done += receipt.objects
        self.earlier += receipt.objects
        self.errors += receipt.counts.errors
        self._receive(receipt)
        return True

    def _begin(self, holder: _OpenShard) -> Iterator[Batch]:
        holder.reset()
        self._open[holder.shard.name] = holder
        yield from batches(holder.shard, self._batch_size)

    def _write(self) -> None:
        while self._complete and len(self._writing) < self._writers:
            holder = self._complete.popleft()
            written = tasks.start_writing(holder.shard, holder.rows, self._policy, self._dim, self._paths, self._output)
            self._writing[written] = holder

    def _collect(self, block: bool) -> None:
        done, _ = tasks.finished(list(self._writing), block)
        for reference in done:
            holder = self._writing.pop(reference)
            try:
                found = tasks.result(reference)
            except tasks.RowsLost:
                self._lose(holder)
                continue
            if isinstance(found, str):
                self._score_instead(holder, found)
                continue
            if holder.redecided:
                self.done += found.objects
            self.staged_seconds = add_numbers(self.staged_seconds, found.seconds)
            self._receive(found)
        self._write()

    def _score_instead(self, holder: _OpenShard, reason: str) -> None:
        _log.warning(
            "%d images are scored instead of being re-decided from stored embeddings: %s", len(holder.shard.objects), reason
        )
        self.lost_embeddings = reason
        self._lost.append(_OpenShard(holder.shard))

    def _lose(self, holder: _OpenShard) -> None:
        holder.losses += 1
        if holder.losses >= MAX_LOSSES:
            raise RunError(
                f"the rows of shard {holder.shard.name} were lost {holder.losses} times before they could be written: "
                "the Ray cluster keeps losing machines; fix that, then resume with the same --run-id"
            )
        if holder.redecided:
            holder = _OpenShard(holder.shard, losses=holder.losses)
        else:
            self.done -= len(holder.shard.objects)
        self._lost.append(holder)

    def _receive(self, receipt: Receipt) -> None:
        facts = {"shard": receipt.shard, "objects": receipt.objects, "errors": receipt.counts.errors}
        _log.info("shard staged", extra={**facts, "seconds": receipt.seconds})
        self.counts = self.counts + receipt.counts
        self.aggregates = self.aggregates + receipt.aggregates
        self.redecided += receipt.redecided
        # Sums are enough from here on; the driver's memory must not grow with the examples of every shard.
        self.receipts.append(receipt.model_copy(update={"aggregates": Aggregates()}))


@contextlib.contextmanager
def keeping(staging: Staging, run_id: str) -> Iterator[None]:
    """If the store of a source is down, what is scored by then is staged first, and the error says how to resume.

    Raises:
        StoreDownError: with the run's id.
    """
    try:
        yield
    except StoreDownError as error:
        with contextlib.suppress(ModerationError):
            staging.finish()
        raise StoreDownError(
            f"{error}; completed work is kept, nothing was published: when the store is available, resume with "
            f"--run-id {run_id}"
        ) from None

"""A pool of Ray actors that scores batches and isolates what kills them.

Batches go to actors, a few in flight on each, so that inside an actor one is fetched and decoded while another is on the
device. When an actor dies or a batch hangs, every batch it held is under suspicion: suspects run alone on an actor, and one
that kills again is cut in two, down to the single object that did it. That object becomes an error row; all others are scored.

`ray.util.ActorPool` recycles dead actors and Ray Data drops or hangs on bad blocks (ray#50313, ray#62746), so the loop is ours.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import ray
from ray import exceptions

from moderation.errors import ErrorCode, ModerationError, RunError, WorkerStormError
from moderation.records import Batch, BatchSummary, ScoredBatch
from moderation.scoring.rows import Failure, RowContext, failed_batch
from moderation.scoring.scorer import ModelDescription, Scorer, ScorerFactory
from moderation.scoring.session import PoolPlan

IN_FLIGHT = 2
"""Batches on one actor at a time."""
STORM = 30
"""Failures in a row, without a batch that succeeds, after which a run stops."""


class _Actor:
    """Runs in the actor's process. Loading is a call, not the constructor: what it raises comes back as it is."""

    def __init__(self, factory: ScorerFactory) -> None:
        self._factory = factory
        self._scorer: Scorer | None = None
        self._loading = threading.Lock()

    def load(self) -> Scorer:
        with self._loading:
            if self._scorer is None:
                self._scorer = self._factory()
            return self._scorer

    def warm_up(self) -> None:
        self.load()

    def describe(self, texts: list[str]) -> ModelDescription:
        return self.load().describe(texts)

    def score(self, batch: Batch, context: RowContext) -> tuple[BatchSummary, ScoredBatch]:
        rows = self.load().score(batch, context)
        return rows.summary, rows


@dataclass(frozen=True, slots=True)
class ScoredRef:
    """A finished batch: what the driver learns, and where the rows are."""

    batch: Batch
    summary: BatchSummary
    rows: Any
    """ray.ObjectRef of a ScoredBatch"""


@dataclass(slots=True)
class _Slot:
    """One place for an actor."""

    actor: Any
    running: "dict[Any, _Attempt]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Attempt:
    batch: Batch
    rows: Any
    alone: bool
    deadline: float


class ScorerPool:
    """Actors that score batches. Use as a context manager: leaving it ends the actors."""

    def __init__(self, factory: ScorerFactory, plan: PoolPlan, batch_timeout_s: float) -> None:
        self._factory, self._plan, self._timeout = factory, plan, batch_timeout_s
        self._slots = [_Slot(self._start()) for _ in range(plan.actors)]

    def __enter__(self) -> "ScorerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self._slots:
            ray.kill(slot.actor)

    def describe(self, texts: list[str]) -> ModelDescription:
        """Wait for the first actor's model and embed `texts` with it. Raises what loading raises, e.g. `ModelError`."""
        try:
            description: ModelDescription = ray.get(self._slots[0].actor.describe.remote(texts))
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, ModerationError):
                raise error.cause from None
            raise
        except exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"the worker died while it loaded the model, out of memory perhaps: {reason}") from None
        return description

    def score(self, batches: Iterator[Batch], context: RowContext) -> Iterator[ScoredRef]:
        """Score a stream of batches; each object comes back exactly once, batches in any order and possibly cut up.

        Raises:
            WorkerStormError: nothing succeeds any more.
        """
        shared = ray.put(context)
        suspects: deque[Batch] = deque()
        failures_in_a_row = 0
        more = True
        while True:
            more = self._fill(batches, suspects, shared) if more or suspects else False
            running = {ref: slot for slot in self._slots for ref in slot.running}
            if not running:
                return
            deadline = min(a.deadline for slot in self._slots for a in slot.running.values())
            done, _ = ray.wait(list(running), timeout=max(0.1, min(5.0, deadline - time.monotonic())))
            for ref in done:
                slot = running[ref]
                attempt = slot.running.pop(ref, None)
                if attempt is None:
                    continue
                try:
                    summary = ray.get(ref)
                except exceptions.RayError as error:
                    if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, ModerationError):
                        raise error.cause from None
                    failures_in_a_row += 1
                    yield from self._failed(slot, attempt, error, suspects, context)
                else:
                    failures_in_a_row = 0
                    yield ScoredRef(attempt.batch, summary, attempt.rows)
            for slot in self._slots:
                late = [ref for ref, attempt in slot.running.items() if attempt.deadline < time.monotonic()]
                if late:
                    failures_in_a_row += 1
                    yield from self._failed(slot, slot.running.pop(late[0]), None, suspects, context)
            if failures_in_a_row >= STORM:
                raise WorkerStormError(
                    f"{failures_in_a_row} batches failed one after another and none succeeded: "
                    "the workers are broken, not the images; see the Ray logs, and go on with the same --run-id"
                )

    def _start(self) -> Any:
        options: dict[str, Any] = {"num_cpus": self._plan.cpus, "max_restarts": 0, "max_concurrency": IN_FLIGHT}
        if self._plan.gpus:
            options["num_gpus"] = self._plan.gpus
        actor = ray.remote(_Actor).options(**options).remote(self._factory)
        actor.warm_up.remote()
        return actor

    def _fill(self, batches: Iterator[Batch], suspects: deque[Batch], context: Any) -> bool:
        """Hand out work; False once the stream of batches has ended."""
        for slot in self._slots:
            while suspects and not slot.running:
                self._submit(slot, suspects.popleft(), context, alone=True)
        for number in range(IN_FLIGHT):
            for slot in self._slots:
                if len(slot.running) > number or any(a.alone for a in slot.running.values()) or suspects:
                    continue
                batch = next(batches, None)
                if batch is None:
                    return False
                self._submit(slot, batch, context, alone=False)
        return True

    def _submit(self, slot: _Slot, batch: Batch, context: Any, alone: bool) -> None:
        summary, rows = slot.actor.score.options(num_returns=2).remote(batch, context)
        slot.running[summary] = _Attempt(batch, rows, alone, time.monotonic() + self._timeout)

    def _failed(
        self, slot: _Slot, attempt: _Attempt, error: exceptions.RayError | None, suspects: deque[Batch], context: RowContext
    ) -> Iterator[ScoredRef]:
        """Put what the actor held under suspicion, and replace the actor unless it lives on. `error` None: a time-out."""
        if not isinstance(error, exceptions.RayTaskError):
            suspects.extend(other.batch for other in slot.running.values())
            slot.running.clear()
            ray.kill(slot.actor)
            slot.actor = self._start()
        batch = attempt.batch
        if not attempt.alone:
            suspects.append(batch)
        elif len(batch.objects) > 1:
            suspects.extendleft(reversed(batch.halves()))
        else:
            code, detail = _reason(error, self._timeout)
            failed = failed_batch(context, [Failure(batch.objects[0], code, detail)], datetime.now(UTC))
            yield ScoredRef(batch, failed.summary, ray.put(failed))


def _reason(error: exceptions.RayError | None, timeout: float) -> tuple[ErrorCode, str]:
    if error is None:
        return ErrorCode.WORKER_TIMEOUT, f"no result within {timeout:g} s"
    if isinstance(error, exceptions.RayTaskError):
        return ErrorCode.INTERNAL, f"{type(error.cause).__name__}: {error.cause}"[:300]
    return ErrorCode.WORKER_KILLED, "the worker died while it worked on this image"

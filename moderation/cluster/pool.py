"""A pool of Ray actors that scores batches and isolates what kills them.

Batches go to actors, a few in flight on each, so that inside an actor one is fetched and decoded while another is on the
device. `ray.util.ActorPool` recycles dead actors and Ray Data drops or hangs on bad blocks (ray#50313, ray#62746), so the
loop is ours.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ray
from ray import exceptions

from moderation.cluster.isolation import Suspects, whole
from moderation.cluster.liveness import PULSE_S, check_ray, is_done, ray_died, wait
from moderation.cluster.metrics import metrics
from moderation.cluster.scorer import ModelDescription, ScorerFactory
from moderation.cluster.session import PoolPlan
from moderation.cluster.slots import IN_FLIGHT, LOADING_LIMIT_S, Attempt, Slot
from moderation.errors import ErrorCode, ModerationError, RunError
from moderation.records import Batch, BatchSummary
from moderation.scoring.decision_rows import Failure, failed_batch
from moderation.scoring.exemplar_embeddings import Embedded
from moderation.scoring.flips import FlipCheck
from moderation.scoring.judging import RowContext

CROWD = 1_000
"""Suspects waiting, above which no new batches are taken."""


@dataclass(frozen=True, slots=True)
class ScoredRef:
    """A finished batch: what the driver learns, and where the rows are."""

    batch: Batch
    summary: BatchSummary
    rows: Any
    """ray.ObjectRef of a ScoredBatch"""


class ScorerPool:
    """Actors that score batches. Use as a context manager: leaving it ends the actors."""

    def __init__(self, factory: ScorerFactory, plan: PoolPlan, batch_timeout_s: float) -> None:
        self._timeout = batch_timeout_s
        self._slots = [Slot(factory, plan) for _ in range(plan.actors)]

    def __enter__(self) -> "ScorerPool":
        return self

    def __exit__(self, *_: object) -> None:
        if not ray_died():
            for slot in self._slots:
                ray.kill(slot.actor)

    def describe(self, texts: list[str]) -> ModelDescription:
        """Wait for the first actor's model and embed `texts` with it. Raises what loading raises, e.g. `ModelError`."""
        description: ModelDescription = _loaded(self._slots[0].actor.describe.remote(texts))
        return description

    def made(self, fingerprints: Collection[str]) -> frozenset[str]:
        """Those of the fingerprints that are the first actor's model's. Raises as `describe`."""
        found: frozenset[str] = _loaded(self._slots[0].actor.made.remote(fingerprints)) if fingerprints else frozenset()
        return found

    def embed(self, images: Mapping[str, bytes]) -> Embedded:
        """Embed exemplars with the first actor's model. Raises as `describe`."""
        found: Embedded = _loaded(self._slots[0].actor.embed.remote(images))
        return found

    def check(self, batch: Batch, context: RowContext) -> FlipCheck | None:
        """Compare how the first objects of a batch are decided in the run's precision and in fp32, before anything is scored.

        Returns:
            None if the actor died or hung while it processed the batch, and was replaced: scoring it shows which object is at
            fault.
        """
        slot = self._slots[0]
        reference = slot.actor.check.remote(batch, context)
        try:
            if wait([reference], LOADING_LIMIT_S) is not None:
                found: FlipCheck = ray.get(reference)
                return found
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, ModerationError):
                raise error.cause from None
            raise
        except exceptions.RayError:
            pass
        slot.restart()
        return None

    def score(self, batches: Iterator[Batch], context: RowContext) -> Iterator[ScoredRef]:
        """Score a stream of batches; each object is returned exactly once, batches in any order and possibly split.

        When an actor dies, or one of its batches hangs, all batches it held are suspects; so is one that raises.
        Suspects are cut into parts of sqrt(n) objects, each alone on an actor; a part that fails again into its objects.
        One object that hangs or raises alone, or kills twice, becomes an error row: some four restarts for an image.
        An actor that failed, or its replacement, must first score a probe: images that were scored before. So neither a sick
        worker is taken for a bad image, nor many bad images for sick workers. Half of the actors continue with new batches.

        Raises:
            WorkerStormError: nothing succeeds any more, probes neither.
            RunError: Ray died.
        """
        yield from _Scoring(self._slots, self._timeout, batches, context).results()


class _Scoring:
    """The scoring of one stream."""

    def __init__(self, slots: list[Slot], timeout: float, batches: Iterator[Batch], context: RowContext) -> None:
        check_ray()
        self._slots, self._timeout, self._batches, self._context = slots, timeout, batches, context
        self._policy = context.compiled.policy.policy
        self._shared = ray.put(context)
        self._suspects = Suspects(len(slots))
        self._ended = False

    def results(self) -> Iterator[ScoredRef]:
        while True:
            self._hand_out()
            metrics().queued(self._policy, sum(slot.load for slot in self._slots), len(self._suspects))
            if not self._more and not any(slot.load for slot in self._slots):
                return
            owners = {reference: slot for slot in self._slots for reference in slot.pending}
            patience = min(slot.next_due[0] for slot in self._slots) - time.monotonic()
            done = wait(list(owners), min(PULSE_S, max(0.01, patience)))
            if done is not None:
                yield from self._receive(owners[done], done)
            for slot in self._slots:
                deadline, late = slot.next_due
                if deadline < time.monotonic() and not is_done(late):
                    yield from self._failed(slot, slot.take(late), None)

    @property
    def _more(self) -> bool:
        """Whether there may be something to hand out."""
        return bool(self._suspects) or not self._ended

    def _hand_out(self) -> None:
        """Give work to slots that have room: probes first, then suspects, then new batches."""
        others = self._hand_out_alone()
        for depth in range(IN_FLIGHT):
            for slot in others:
                if slot.load > depth or self._ended:
                    continue
                batch = next(self._batches, None)
                if batch is None:
                    self._ended = True
                    self._hand_out_alone()
                else:
                    slot.submit(whole(batch), self._shared, self._timeout)

    def _hand_out_alone(self) -> list[Slot]:
        """Give probes and suspects to idle slots, and let others run dry for them. Returns the slots for new batches.

        Suspects wait for the first success, without which there is no probe, or for the end of the stream.
        """
        isolating = sum(slot.isolating for slot in self._slots)
        most = len(self._slots) if self._ended or len(self._suspects) > CROWD else (len(self._slots) + 1) // 2
        wanted = min(len(self._suspects), most - isolating) if self._suspects.probe or self._ended else 0
        others = []
        for slot in sorted((slot for slot in self._slots if slot.open), key=lambda slot: slot.load):
            probe = None if slot.proven or not self._more else self._suspects.probe
            if probe is None and wanted <= 0:
                others.append(slot)
                continue
            wanted -= probe is None
            if not slot.load:
                slot.submit(probe or self._suspects.next(), self._shared, self._timeout)
        return others

    def _receive(self, slot: Slot, reference: Any) -> Iterator[ScoredRef]:
        attempt = slot.take(reference)
        try:
            summary = ray.get(reference)
        except exceptions.RayError as error:
            if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, ModerationError):
                raise error.cause from None
            yield from self._failed(slot, attempt, error)
            return
        if attempt is not None:
            slot.proven = True
            self._suspects.succeeded(attempt.work, summary)
            if not attempt.work.probe:
                yield ScoredRef(attempt.work.batch, summary, attempt.rows)

    def _failed(self, slot: Slot, attempt: Attempt | None, error: exceptions.RayError | None) -> Iterator[ScoredRef]:
        """What an actor did has failed: `attempt`, or the loading of its model if that is None. `error` None: a time-out."""
        self._suspects.count_failure(_reason(error, attempt.limit if attempt else LOADING_LIMIT_S)[1])
        dead = not isinstance(error, exceptions.RayTaskError)
        sick = attempt is None or attempt.work.probe or not (slot.proven or self._suspects.probe)
        slot.proven = False
        if dead or sick:
            metrics().restarted(self._policy)
            for work in slot.restart():
                self._suspects.failed(work, killed=True)
        if attempt is not None and self._suspects.failed(attempt.work, killed=dead and error is not None):
            batch = attempt.work.batch
            code, detail = _reason(error, attempt.limit)
            if code is ErrorCode.WORKER_KILLED:
                detail += " twice while it processed only this image"
            rows = failed_batch(self._context, [Failure(batch.objects[0], code, detail)], datetime.now(UTC))
            metrics().scored(self._policy, rows.summary)
            yield ScoredRef(batch, rows.summary, ray.put(rows))


def _reason(error: exceptions.RayError | None, limit: float) -> tuple[ErrorCode, str]:
    if error is None:
        return ErrorCode.WORKER_TIMEOUT, f"no result within {limit:g} s"
    if isinstance(error, exceptions.RayTaskError):
        return ErrorCode.INTERNAL, f"{type(error.cause).__name__}: {error.cause}"[:300]
    end = "ran out of memory" if isinstance(error, exceptions.OutOfMemoryError) else "died"
    return ErrorCode.WORKER_KILLED, f"the worker {end}"


def _loaded(reference: Any) -> Any:
    """What a call returns that may load the model. Raises what it raises, e.g. `ModelError`."""
    wait([reference])
    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, ModerationError):
            raise error.cause from None
        raise
    except exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"the worker died while it loaded the model, perhaps out of memory: {reason}") from None

"""Places for Ray actors: what an actor has in flight, how long it may take, and how it is replaced."""

import math
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ray

from moderation.cluster.isolation import Work
from moderation.cluster.liveness import check_ray
from moderation.cluster.scorer import ModelDescription, Scorer, ScorerFactory
from moderation.cluster.session import PoolPlan
from moderation.cluster.shared_objects import SharedObjects
from moderation.records import Batch, BatchSummary, ScoredBatch
from moderation.scoring.exemplar_embeddings import Embedded
from moderation.scoring.flips import FlipCheck
from moderation.scoring.judging import RowContext

IN_FLIGHT = 2
"""Batches on one actor at a time."""
TABLES = 2
"""Tables of objects that an actor keeps: for the next batch of a shard it need not ask the driver where its table is."""
LOADING_LIMIT_S = 1800.0
"""Seconds for starting an actor and loading its model, which may have to be downloaded."""


class _Actor:
    """Runs in the actor's process. Loading is a call, not the constructor: what it raises comes back as it is."""

    def __init__(self, factory: ScorerFactory) -> None:
        self._factory = factory
        self._scorer: Scorer | None = None
        self._loading = threading.Lock()
        self._table = lru_cache(TABLES)(ray.get)

    def load(self) -> Scorer:
        with self._loading:
            if self._scorer is None:
                self._scorer = self._factory()
            return self._scorer

    def warm_up(self) -> None:
        self.load()

    def describe(self, texts: list[str]) -> ModelDescription:
        return self.load().describe(texts)

    def made(self, fingerprints: Collection[str]) -> frozenset[str]:
        return self.load().made(fingerprints)

    def embed(self, images: Mapping[str, bytes]) -> Embedded:
        return self.load().embed(images)

    def score(self, batch: Batch, context: RowContext) -> tuple[BatchSummary, ScoredBatch]:
        rows = self.load().score(self._here(batch), context)
        return rows.summary, rows

    def check(self, batch: Batch, context: RowContext) -> FlipCheck:
        return self.load().check(self._here(batch), context)

    def _here(self, batch: Batch) -> Batch:
        """With the objects themselves, wherever they are kept."""
        objects = batch.objects
        return Batch(batch.shard, objects.fetched(self._table) if isinstance(objects, SharedObjects) else objects)


@dataclass(slots=True)
class Attempt:
    """Work that an actor has."""

    work: Work
    rows: Any
    """ray.ObjectRef of a ScoredBatch"""
    limit: float
    """seconds from `began`"""
    began: float
    passed: int = 0
    """batches that came back meanwhile, behind which this one may have had to wait"""

    @property
    def deadline(self) -> float:
        """By when it must have come back."""
        return self.began + self.limit


class Slot:
    """One place for an actor."""

    def __init__(self, factory: ScorerFactory, plan: PoolPlan) -> None:
        self._factory, self._plan = factory, plan
        self._running: dict[Any, Attempt] = {}
        self.proven = True
        """nothing has failed here since something last succeeded"""
        self._start()

    def _start(self) -> None:
        options: dict[str, Any] = {
            "num_cpus": self._plan.cpus,
            "max_restarts": 0,
            "max_concurrency": IN_FLIGHT,
            "enable_task_events": False,  # one for each batch, which the driver would have to send
        }
        if self._plan.gpus:
            options["num_gpus"] = self._plan.gpus
        self.actor = ray.remote(_Actor).options(**options).remote(self._factory)
        self._loading: Any = self.actor.warm_up.remote()
        self._loaded_by = time.monotonic() + LOADING_LIMIT_S

    def restart(self) -> list[Work]:
        """Replace the actor. Returns the work it had."""
        held = [attempt.work for attempt in self._running.values()]
        self._running.clear()
        ray.kill(self.actor)
        self._start()
        return held

    def submit(self, work: Work, context: Any, timeout: float) -> None:
        """Give it work; `context` is a reference to a `RowContext`, `timeout` what a whole batch may take, in seconds."""
        check_ray()
        summary, rows = self.actor.score.options(num_returns=2).remote(work.batch, context)
        self._running[summary] = Attempt(work, rows, work.limit(timeout), time.monotonic())

    def take(self, reference: Any) -> Attempt | None:
        """What has come back, or None if that was the loading of the model. The clock of those behind it starts again."""
        if reference == self._loading:
            self._loading = None
            return None
        attempt = self._running.pop(reference)
        for other in self._running.values():
            if other.passed < IN_FLIGHT - 1:
                other.passed, other.began = other.passed + 1, time.monotonic()
        return attempt

    @property
    def pending(self) -> list[Any]:
        """References to what is to come back."""
        return [self._loading] if self._loading else list(self._running)

    @property
    def load(self) -> int:
        """The number of batches in flight."""
        return len(self._running)

    @property
    def open(self) -> bool:
        """Whether more work may be given: the model is loaded, and nothing runs that must be alone."""
        return not (self._loading or self.load >= IN_FLIGHT or self._alone)

    @property
    def isolating(self) -> bool:
        """Whether it is busy with suspects: one runs, or the last one has cost it its actor."""
        return self._alone or bool(self._loading and not self.proven)

    @property
    def _alone(self) -> bool:
        return any(attempt.work.alone for attempt in self._running.values())

    @property
    def next_due(self) -> tuple[float, Any]:
        """By when the next one must have come back, and its reference."""
        if self._loading:
            return self._loaded_by, self._loading
        due = ((attempt.deadline, reference) for reference, attempt in self._running.items())
        return min(due, key=lambda item: item[0], default=(math.inf, None))

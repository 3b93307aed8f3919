"""Which image kills workers: batches that failed, cut down to the images that did it. Nothing here knows Ray."""

from collections import deque
from dataclasses import dataclass, replace
from math import isqrt

from moderation.errors import WorkerStormError
from moderation.records import Batch, BatchSummary

STORM = 30
"""Failures in a row, beyond one for each actor, without anything that succeeds, after which a run stops."""
LEAST_SHARE, LEAST_S = 0.1, 2.0
"""A part of a batch gets its share of the batch's time limit, but no less than this share and these seconds."""
PROBE = 8
"""Images of a batch that succeeded, kept to tell a sick worker from a bad image."""


@dataclass(frozen=True, slots=True)
class Work:
    """What an actor is given to score."""

    batch: Batch
    whole: int
    """objects in the batch that it was cut from"""
    alone: bool = False
    """nothing else may be on the actor"""
    probe: bool = False
    """known to be good: its rows are not wanted"""
    kills: int = 0
    """workers that died while they had this one image and nothing else"""

    def limit(self, timeout: float) -> float:
        """The seconds it may take, where `timeout` is what a whole batch may take."""
        if not self.alone or self.probe:
            return timeout
        share = max(len(self.batch.objects) / self.whole, LEAST_SHARE)
        return min(timeout, max(share * timeout, LEAST_S))


def whole(batch: Batch) -> Work:
    """A batch that nothing is known against."""
    return Work(batch, len(batch.objects))


class Suspects:
    """What has failed and is to be tried again, in smaller parts, each alone on an actor."""

    def __init__(self, actors: int) -> None:
        self._waiting: deque[Work] = deque()
        self._failures = 0
        self._storm = STORM + actors  # a machine that goes away takes all its actors at once
        self.probe: Work | None = None
        """Scores on any healthy actor. None until something was scored."""

    def __len__(self) -> int:
        return len(self._waiting)

    def next(self) -> Work:
        """The one that has waited longest."""
        return self._waiting.popleft()

    def succeeded(self, work: Work, summary: BatchSummary) -> None:
        """Somebody scored something: workers are fine, and some of these images will do as a probe."""
        self._failures = 0
        objects, scored = work.batch.objects, summary.counts.scored
        if scored and (self.probe is None or 2 * scored >= len(objects)):
            known = Batch(work.batch.shard, objects[:PROBE])
            self.probe = Work(known, len(objects), alone=True, probe=True)

    def count_failure(self, reason: str) -> None:
        """Raise `WorkerStormError` once there were too many in a row. `reason`: what has failed now."""
        self._failures += 1
        if self._failures >= self._storm:
            raise WorkerStormError(
                f"workers failed {self._failures} times in a row and none succeeded, the last with: {reason}; "
                "the workers are broken, not the images: see the Ray logs, then resume with the same --run-id"
            )

    def failed(self, work: Work, killed: bool) -> bool:
        """Have `work` tried again, in parts if it is more than one image. True if it is one, and to blame: it is not.

        An image that was alone when its worker died gets a second chance, since workers die of other things, too.
        """
        if work.probe:
            return False
        if not work.alone:
            self._add(work, isqrt(work.whole))
        elif len(work.batch.objects) > 1:
            self._add(work, 1)
        elif killed and not work.kills:
            self._waiting.append(replace(work, kills=1))
        else:
            return True
        return False

    def _add(self, work: Work, size: int) -> None:
        self._waiting.extend(Work(part, work.whole, alone=True) for part in work.batch.parts(size))

"""Numbers for Prometheus, by way of the endpoint that every node of a Ray cluster has.

Ray puts `ray_` before each name and adds the node and the job. Runs are distinguished by their policy, not by their id,
which would start a new time series every night.
"""

from functools import cache

from ray.util.metrics import Counter, Gauge

from moderation.records import BatchSummary


class Metrics:
    """What this process counts."""

    def __init__(self) -> None:
        self._images = Counter(
            "moderation_images", "images by outcome: scored, or the code of their error", ("policy", "outcome")
        )
        self._actions = Counter("moderation_actions", "scored images by action", ("policy", "action"))
        self._seconds = Counter("moderation_stage_seconds", "busy seconds by stage, summed over threads", ("policy", "stage"))
        self._restarts = Counter("moderation_worker_restarts", "workers replaced: dead, stuck or failing", ("policy",))
        self._batches = Gauge("moderation_batches", "batches by state: in_flight, suspect", ("policy", "state"))

    def scored(self, policy: str, summary: BatchSummary) -> None:
        """A batch is done."""
        counts = summary.counts
        allowed = counts.scored - counts.blocked - counts.review
        for outcome, number in {"scored": counts.scored, **counts.errored}.items():
            _add(self._images, number, policy=policy, outcome=outcome)
        for action, number in (("allow", allowed), ("review", counts.review), ("block", counts.blocked)):
            _add(self._actions, number, policy=policy, action=action)
        for stage, seconds in summary.seconds.items():
            _add(self._seconds, seconds, policy=policy, stage=stage)

    def restarted(self, policy: str) -> None:
        """A worker was replaced."""
        _add(self._restarts, 1, policy=policy)

    def queued(self, policy: str, in_flight: int, suspects: int) -> None:
        """How many batches are with the actors, and how many wait because they may have killed one."""
        self._batches.set(in_flight, {"policy": policy, "state": "in_flight"})
        self._batches.set(suspects, {"policy": policy, "state": "suspect"})


@cache
def metrics() -> Metrics:
    """This process's, made when Ray is up."""
    return Metrics()


def _add(counter: Counter, number: float, **tags: str) -> None:
    if number > 0:  # Ray refuses to add nothing
        counter.inc(number, tags)

"""How much work waits in a queue, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from moderation.queues.open_queue import OpenQueue
from moderation.reviews.review import Selection


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in a queue. Ages are in hours since the decision; None where nothing waits."""

    queue: str
    waiting: Mapping[Selection, int]
    """images by why they are in the queue"""
    oldest: float | None
    median: float | None
    sla_hours: float | None
    late: int
    """images that have waited longer than that"""

    @property
    def images(self) -> int:
        """All of them."""
        return sum(self.waiting.values())


def backlog(queue: OpenQueue, now: datetime) -> Backlog:
    """The backlog of an open queue."""
    sla = queue.queue.sla_hours
    hours = "epoch($now - scored_at) / 3600"
    kinds = queue.select(f"SELECT why, count(*) AS images FROM {queue.items} GROUP BY why ORDER BY why")  # noqa: S608
    (ages,) = queue.select(
        f"SELECT max({hours}) AS oldest, median({hours}) AS median, count(*) FILTER ({hours} > $sla) AS late "  # noqa: S608
        f"FROM {queue.items}",
        now=now,
        sla=sla,
    )
    waiting = {Selection(row["why"]): row["images"] for row in kinds}
    return Backlog(queue.queue.name, waiting, ages["oldest"], ages["median"], sla, ages["late"])

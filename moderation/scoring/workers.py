"""Threads that share one queue and stay with it as long as there is work: handing over to busy ones wakes nobody."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

GROUP = 8
"""Results that a thread hands on at a time, unless it runs out of work before."""


class Workers(Generic[Item, Done]):
    """Do work in threads of a pool. Thread-safe.

    Args:
        pool: where the threads come from.
        count: threads at a time.
        work: what is done to an item; must not raise. None is no result.
        deliver: is given results, in the thread that made them.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        count: int,
        work: Callable[[Item], Done | None],
        deliver: Callable[[list[Done]], None],
    ) -> None:
        self._pool, self._count, self._work, self._deliver = pool, count, work, deliver
        self._items: deque[Item] = deque()
        self._running = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)

    def add(self, item: Item) -> None:
        """Have an item worked on, by another thread if those at work are fewer than may be.

        Raises:
            RuntimeError: the pool is closed.
        """
        with self._lock:
            if self._running < self._count:
                self._pool.submit(self._run)
                self._running += 1
            self._items.append(item)

    def _run(self) -> None:
        done: list[Done] = []
        while True:
            with self._lock:
                if not self._items and not done:
                    self._running -= 1
                    return
                items = [self._items.popleft()] if self._items else []
            for item in items:
                found = self._work(item)
                if found is not None:
                    done.append(found)
            if done and (not items or len(done) == GROUP):
                self._deliver(done)
                done = []

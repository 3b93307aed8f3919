"""Memory that threads share, counted in bytes before it is taken."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from moderation.images.allocation import give_back_freed_memory


class MemoryBudget:
    """A weighted semaphore: those who would go over the budget wait for their turn, first come, first served.

    Nobody overtakes, so that a large request is never starved by small ones. A request above the whole budget gets all
    of it, and so runs alone. A thread must not ask for more while it holds some: it could wait for itself.

    Args:
        limit: bytes that may be held at a time, by all threads together.
        give_back: called whenever a quarter of the budget has been held and freed in large parts, while the last of them
            still counts.
    """

    def __init__(self, limit: int, give_back: Callable[[], None] = give_back_freed_memory) -> None:
        if limit <= 0:
            raise ValueError(f"a memory budget of {limit} bytes")
        self._limit = limit
        self._free = limit
        self._give_back = give_back
        self._freed = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Hold `amount` bytes of the budget, waiting until they are free."""
        self.take(amount)
        try:
            yield
        finally:
            self.free(amount)

    def take(self, amount: int) -> None:
        """Wait until `amount` bytes are free, and hold them until `free` is called, from any thread."""
        amount = min(amount, self._limit)
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is turn and self._free >= amount)
                self._free -= amount
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def free(self, amount: int) -> None:
        """Give back what was taken."""
        amount = min(amount, self._limit)
        if self._is_time(amount):
            self._give_back()
        with self._changed:
            self._free += amount
            self._changed.notify_all()

    def _is_time(self, amount: int) -> bool:
        if amount < self._limit // 64:
            return False
        with self._changed:
            self._freed += amount
            if self._freed < self._limit // 4:
                return False
            self._freed = 0
            return True

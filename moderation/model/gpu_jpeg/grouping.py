"""Work that costs less for several at once, asked for by threads that have one each."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Grouped(Generic[T, R]):
    """Gathers what threads ask for while a group is being worked on, and does it together, in a thread of its own.

    Args:
        work: a result for each item of a group, in its order.
        weight: of an item.
        count: most items of a group.
        limit: most weight of a group; an item that alone weighs more is a group by itself.
        name: of the thread.
    """

    def __init__(
        self, work: Callable[[list[T]], list[R]], weight: Callable[[T], int], *, count: int, limit: int, name: str
    ) -> None:
        self._work, self._weight, self._count, self._limit = work, weight, count, limit
        self._asked: deque[tuple[T, Future[R]]] = deque()
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def do(self, item: T) -> R | None:
        """The result for an item, None after `close`. Raises what `work` raised for its group."""
        future: Future[R] = Future()
        with self._changed:
            if self._closed:
                return None
            self._asked.append((item, future))
            self._changed.notify()
        return future.result()

    def close(self) -> None:
        """Take no more; what was asked for before is still done."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _serve(self) -> None:
        while group := self._next():
            try:
                results = self._work([item for item, _ in group])
            except BaseException as error:  # noqa: BLE001 - it belongs to those who wait
                for _, future in group:
                    future.set_exception(error)
            else:
                for (_, future), result in zip(group, results, strict=True):
                    future.set_result(result)

    def _next(self) -> list[tuple[T, Future[R]]]:
        """What waits, as much as goes together; nothing once closed."""
        group: list[tuple[T, Future[R]]] = []
        weight = 0
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closed)
            while self._asked and len(group) < self._count:
                weight += self._weight(self._asked[0][0])
                if group and weight > self._limit:
                    break
                group.append(self._asked.popleft())
        return group

"""Detects that a store is down after a few failures in a row, so that not every object costs a time-out.

Counts requests, of all threads, that failed after all their tries, with no success in between. A store that fails now and
then never reaches the limit. To tell an unreadable object from a store that no longer responds, the store is asked for
another object.
"""

import threading
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from moderation.errors import StorageError, StoreDownError
from moderation.storage.retrying import PROBE_PATIENCE, TransientError, retried

Result = TypeVar("Result")

ASK_PATIENCE = 2.0
"""seconds for which a question is tried again; short, for an image that is alone in a batch must not time out meanwhile"""

FAILURES = 5
"""questions in a row, each tried again for a while, after which a store counts as down"""


class Outage:
    """What one process knows of one store. Thread-safe."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._failures = 0
        self._lock = threading.Lock()

    def answered(self) -> None:
        """The store answered, perhaps with a refusal."""
        if self._failures:
            with self._lock:
                self._failures = 0

    def failed(self, error: TransientError) -> None:
        """The store did not answer. Raises `StoreDownError` at the limit."""
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= FAILURES:
            text = f"{self._store} is down: {failures} requests in a row failed after several tries each"
            raise StoreDownError(f"{text}, the last with: {error.detail}")


@cache
def outage_of(store: str) -> Outage:
    """The one for a store, by the URI of its root."""
    return Outage(store)


def read_through(outage: Outage, read: Callable[[float | None], Result], ask: Callable[[], object]) -> Result:
    """What `read` returns. A failure is the object's own only where the store answers right after it, twice.

    Args:
        outage: of the store.
        read: reads one object; given seconds for which to try again, or None. Raises `TransientError` after its last try.
        ask: asks the store for anything else, once. Raises `TransientError` if that gave no answer.

    Raises:
        StoreDownError: the store is down.
        TransientError: the store answers, but cannot give this object.
        StorageError: whatever else `read` raises.
    """
    patience = None
    while True:
        try:
            result = read(patience)
        except TransientError:
            if _answers(outage, ask) and patience is not None:
                raise
            patience = PROBE_PATIENCE
        except StorageError:
            outage.answered()
            raise
        else:
            outage.answered()
            return result


def _answers(outage: Outage, ask: Callable[[], object]) -> bool:
    """Whether it answers at once; or else waits until it does, or others say so. Raises `StoreDownError` if it does not."""
    for tries in range(FAILURES):
        try:
            retried(ask, ASK_PATIENCE)
        except TransientError as error:
            outage.failed(error)
        else:
            outage.answered()
            return tries == 0
    return True

"""Retries of temporary failures: one place for all stores, in addition to obstore's own retries."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from moderation.errors import StorageError
from moderation.storage.backend import StoredObject

Result = TypeVar("Result")

PATIENCE = 40.0
"""seconds after which a failed call is not retried; the last try may take `READ_TIMEOUT` longer"""

PROBE_PATIENCE = 10.0
"""the same at start-up, when a user is waiting"""

READ_TIMEOUT = 30
"""seconds without a byte from the store after which one try has failed"""

CONNECT_TIMEOUT = 5
"""seconds to reach the store"""


class TransientError(StorageError):
    """A `storage_error` that may be temporary: 503, a time-out, a reset, a body cut short. Raised if retries do not help."""


def retried(call: Callable[[], Result], patience: float | None = None) -> Result:
    """What `call` returns, tried again on `TransientError`: at once, then after growing waits of up to 5 seconds.

    A failure after `patience` seconds (`PATIENCE` unless given) is the last.

    Raises:
        StorageError: one that cannot pass, or the last `TransientError`.
    """
    began = time.monotonic()
    try:
        return call()
    except TransientError:
        left = (PATIENCE if patience is None else patience) - (time.monotonic() - began)
        if left <= 0:
            raise
        again = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            stop=stop_after_delay(left),
            reraise=True,
        )
        return again(call)


def continued(listing: Callable[[str], Iterator[list[StoredObject]]], after: str) -> Iterator[list[StoredObject]]:
    """The pages of `listing(after)`. If a page fails, the listing restarts after the last key received."""
    pages = listing(after)

    def next_page() -> list[StoredObject] | None:
        nonlocal pages
        try:
            return next(pages, None)
        except TransientError:
            pages = listing(after)
            raise

    while page := retried(next_page):
        yield page
        after = page[-1].key

"""How a run tells whoever watches how far it is. Listeners are set for a context, so that stages need not pass them on."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of a run."""

    stage: str
    """what is being done, in a few words"""
    planned: int = 0
    """objects to score, as far as the listing has come"""
    done: int = 0
    """objects scored or errored"""
    errors: int = 0
    listing: bool = False
    """whether the listing still runs, so that `planned` will grow"""


Listener = Callable[[Progress], None]

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of runs in this context to `listener`, beside those that listen already."""
    outer = _listener.get()

    def both(progress: Progress) -> None:
        if outer is not None:
            outer(progress)
        listener(progress)

    token = _listener.set(both)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(progress: Progress) -> None:
    """Send a snapshot to the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)

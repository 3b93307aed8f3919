"""Reports the progress of a run to listeners. Listeners are set for a context, so that stages need not pass them on."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of a run."""

    stage: str
    """what is being done, in a few words"""
    planned: int = 0
    """objects to score, as far as the listing has come"""
    done: int = 0
    """objects scored or errored"""
    earlier: int = 0
    """of these, the ones that an earlier attempt at the run did: they say nothing about speed"""
    errors: int = 0
    listing: bool = False
    """whether the listing still runs, so that `planned` will grow"""
    bottleneck: str = ""
    """the stage that is busiest for the threads it has"""


class Pace:
    """Puts snapshots into words: images per second, what holds them up, errors, and the time left."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def describe(self, progress: Progress) -> str:
        """For example "12,000 of 50,000: 310 images/s, decode is the bottleneck, 12 errors, 0:02:03 left"."""
        now = time.monotonic()
        worked = progress.done - progress.earlier
        began, before = self._first = self._first or (now, worked)
        rate = (worked - before) / (now - began) if now > began else 0.0
        parts = []
        if rate:
            parts.append(f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s")
        if progress.bottleneck:
            parts.append(f"{progress.bottleneck} is the bottleneck")
        parts.append(f"{progress.errors:,} error{'' if progress.errors == 1 else 's'}")
        if progress.listing:
            parts.append("still listing")
        elif rate:
            parts.append(f"{timedelta(seconds=round((progress.planned - progress.done) / rate))} left")
        return f"{progress.done:,} of {progress.planned:,}: {', '.join(parts)}"


class StageLines:
    """A listener that writes a line for each stage, and one every so often while images are scored: what logs need.

    Args:
        write: takes a line.
        every_s: seconds between two lines about scoring.
    """

    def __init__(self, write: Callable[[str], object], every_s: float = 15.0) -> None:
        self._write, self._every = write, every_s
        self._stage, self._due, self._pace = "", 0.0, Pace()

    def __call__(self, progress: Progress) -> None:
        """Process a snapshot; most are ignored."""
        now = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._due = progress.stage, now + self._every
            self._write(progress.stage)
            self._pace.describe(progress)
        elif progress.stage == "scoring" and now >= self._due:
            self._due = now + self._every
            self._write(self._pace.describe(progress))


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

"""Calls Prefect's API on a separate thread: while it is slow or unavailable, scoring continues and the run ends in time."""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import Self

from prefect.context import SyncClientContext

END_S = 10.0
"""Seconds that a run waits for its last calls at the end."""

_log = logging.getLogger(__name__)


class Background:
    """A thread that makes one call at a time. Of the calls that wait under one name only the newest is made.

    Args:
        name: of the thread.
        end_s: seconds that leaving the context waits for calls that were posted; those that take longer are given up.
    """

    def __init__(self, name: str, end_s: float = END_S) -> None:
        self._name, self._end_s = name, end_s
        self._waiting: dict[str, Callable[[], object]] = {}
        self._busy = self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def post(self, name: str, call: Callable[[], object]) -> None:
        """Queue a call, to be made in the context (flow run, settings) of the first one. Returns at once."""
        with self._changed:
            self._waiting.pop(name, None)
            self._waiting[name] = call
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=copy_context().run, args=(self._work,), name=self._name, daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until all calls are done. Returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._busy or self._waiting), seconds)

    @property
    def idle(self) -> bool:
        """Whether a call would be made immediately."""
        with self._changed:
            return not (self._busy or self._waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait briefly for queued calls, unless the process is being stopped."""
        if kind is None or issubclass(kind, Exception):
            self.wait(self._end_s)
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        with SyncClientContext():  # the flow's own client is busy with the flow's own calls, and may hang in them
            while True:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._waiting or self._closed)
                    if self._closed:
                        return
                    call = self._waiting.pop(next(iter(self._waiting)))
                    self._busy = True
                began = time.monotonic()
                try:
                    call()
                except Exception as error:  # noqa: BLE001 - whatever it is, the run is not about it
                    seconds = time.monotonic() - began
                    _log.info(
                        "%s: Prefect's API did not accept it within %.0f s: %s", self._name, seconds, type(error).__name__
                    )


def answer_within(seconds: float, call: Callable[[], object]) -> bool:
    """Make a call on a separate thread. Returns whether it finished in time; raises what it raised."""
    raised: list[BaseException] = []

    def made() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    with Background("asking Prefect", end_s=0) as background:
        background.post("call", made)
        done = background.wait(seconds)
    for error in raised:
        raise error
    return done

"""Work in a thread, of which a page shows how far it is."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from moderation.errors import ModerationError

T = TypeVar("T")


class Background(Generic[T]):
    """Something that is being computed. `work` is given a function to call with the share that is done, in 0 to 1."""

    def __init__(self, name: str, work: Callable[[Callable[[float], None]], T]) -> None:
        self.share = 0.0
        """how much is done"""
        self._stopped = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether there is a result, or an error."""
        return self._done.is_set()

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return self.done and self._error is not None

    def wait(self, seconds: float) -> bool:
        """Wait for it that long; whether it is done."""
        return self._done.wait(seconds)

    def stop(self) -> None:
        """Let the work end at its next step; it then fails."""
        self._stopped = True

    def result(self) -> T:
        """What was computed, waiting for it. Raises what the work raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # T may include None

    def _run(self) -> None:
        try:
            self._result = self._work(self._step)
            self.share = 1.0
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error
        finally:
            self._done.set()

    def _step(self, share: float) -> None:
        if self._stopped:
            raise StoppedError("no longer needed")
        self.share = share


class StoppedError(ModerationError):
    """The work was stopped, since nobody needs it any more."""

"""How long a batch keeps each stage busy."""

import threading
import time


class Clock:
    """Busy seconds by stage, summed over threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def measure(self, stage: str) -> "_Lap":
        """A context manager whose time counts towards `stage`."""
        return _Lap(self, stage)

    def add(self, stage: str, seconds: float) -> None:
        """Count some time towards `stage`."""
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class _Lap:
    __slots__ = ("_clock", "_stage", "_start")

    def __init__(self, clock: Clock, stage: str) -> None:
        self._clock, self._stage = clock, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._clock.add(self._stage, time.perf_counter() - self._start)

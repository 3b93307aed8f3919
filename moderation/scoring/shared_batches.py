"""The model's batches, filled by all calls in progress: where one call ends, the next continues."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moderation.model.encoder import Encoder

PATIENCE_S = 0.5
"""How long a call that has come to its end waits for others to fill the batch that its last pictures are in."""
_WAITING = 2
"""Full batches that may wait for the model, the one that is being handed to it among them."""


class SharedBatches:
    """Encodes pictures in batches of `encoder.batch_size`, whichever calls they are of. Thread-safe.

    One thread hands batches to the model, another waits for what it gives: a GPU finds the next one there when one is done.
    That they are always the same matters on the CPU as well, where each thread that enters torch has its own OpenMP threads.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()
        self._filling = _Batch()
        self._open_calls = 0
        self._room = threading.Semaphore(_WAITING)
        self._starting = ThreadPoolExecutor(1, "encode")
        self._finishing = ThreadPoolExecutor(1, "encoded")
        self._idle_since = 0.0

    def close(self) -> None:
        """End the threads, once they have done what they were given."""
        self._starting.shutdown(wait=False)
        self._finishing.shutdown(wait=False)

    def open(self) -> None:
        """One more call will add pictures."""
        with self._lock:
            self._open_calls += 1

    def end(self) -> None:
        """One call will add no more. With the last of them, what is there is encoded, however little."""
        with self._lock:
            self._open_calls -= 1
            batch = None if self._open_calls else self._taken()
        self._send(batch)

    def add(self, picture: NDArray[np.uint8]) -> "tuple[_Batch, int]":
        """Its batch, and its row there. Waits while the model is behind."""
        with self._lock:
            batch, row = self._filling, len(self._filling.pixels)
            batch.pixels.append(picture)
            full = self._taken() if row + 1 == self._encoder.batch_size else None
        self._send(full)
        return batch, row

    def wait_for(self, batch: "_Batch") -> None:
        """Wait until it is encoded, for others to fill it not longer than `PATIENCE_S`."""
        if not wait([batch.vectors], PATIENCE_S).done:
            with self._lock:
                late = self._taken() if batch is self._filling else None
            self._send(late)
            wait([batch.vectors])

    def _taken(self) -> "_Batch | None":
        """The batch that is being filled, unless it is empty; another is begun."""
        if not self._filling.pixels:
            return None
        batch, self._filling = self._filling, _Batch()
        return batch

    def _send(self, batch: "_Batch | None") -> None:
        if batch is not None:
            self._room.acquire()
            self._starting.submit(self._start, batch)

    def _start(self, batch: "_Batch") -> None:
        began = time.perf_counter()
        try:
            finish = self._encoder.start(batch.pixels)
            self._finishing.submit(self._finish, batch, finish, began, len(batch.pixels))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            batch.vectors.set_exception(error)
        finally:
            batch.pixels = []
            self._room.release()

    def _finish(self, batch: "_Batch", finish: Callable[[], NDArray[np.float32]], began: float, count: int) -> None:
        try:
            vectors = finish().astype(np.float16)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            batch.vectors.set_exception(error)
            return
        ended = time.perf_counter()
        batch.seconds_each = (ended - max(began, self._idle_since)) / count
        self._idle_since = ended
        batch.vectors.set_result(vectors)


class Call:
    """The pictures of one call. A context manager, inside which they are added; afterwards their vectors are available."""

    def __init__(self, batches: SharedBatches) -> None:
        self._batches = batches
        self._parts: list[tuple[_Batch, list[int]]] = []
        self.added = 0
        """pictures so far"""

    def __enter__(self) -> "Call":
        self._batches.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._batches.end()

    def add(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Add pictures, uint8 [S, S, 3] each."""
        for picture in pictures:
            batch, row = self._batches.add(picture)
            if not self._parts or self._parts[-1][0] is not batch:
                self._parts.append((batch, []))
            self._parts[-1][1].append(row)
            self.added += 1

    def vectors(self) -> tuple[list[NDArray[np.float16]], float]:
        """Unit embeddings, float16 [n, D] each, of all pictures in their order; and the seconds that the model took for them.

        Raises what the encoder raised.
        """
        for batch, _ in self._parts:
            self._batches.wait_for(batch)
        found = [batch.vectors.result()[rows] for batch, rows in self._parts]
        return found, sum(batch.seconds_each * len(rows) for batch, rows in self._parts)


@dataclass(eq=False, slots=True)
class _Batch:
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    vectors: Future[NDArray[np.float16]] = field(default_factory=Future)
    seconds_each: float = 0.0

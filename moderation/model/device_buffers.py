"""Two batches at a time: while a device works on one, the next one is filled in."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Tower = Callable[[torch.Tensor], torch.Tensor]
"""uint8 [B, S, S, 3] on a device to unit embeddings float32 [B, D] there."""


class Lane(Protocol):
    """Memory for one batch, and the way to its embeddings."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """[B, S, S, 3], to be filled in."""
        ...

    def launch(self) -> None:
        """Begin to encode `pixels`, which stay as they are until `result` was called."""
        ...

    def result(self) -> NDArray[np.float32]:
        """Wait for the embeddings of the last launch, [B, D]; they are good until the next."""
        ...


class Lanes:
    """Takes turns between lanes. Thread-safe."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._pending: list[_Pending | None] = [None] * len(lanes)
        self._turn = 0
        self._starting = threading.Lock()

    def start(self, pixels: Sequence[NDArray[np.uint8]]) -> Callable[[], NDArray[np.float32]]:
        """Begin to encode 1 to B pictures, uint8 [S, S, 3] each. Returns a function that waits for float32 [N, D].

        Where all lanes are taken, this waits for the one that started first and keeps its result for whoever asks.

        Raises:
            ValueError: too many pictures, none, or of another shape or type.
        """
        batch, *shape = self._lanes[0].pixels.shape
        if not 0 < len(pixels) <= batch:
            raise ValueError(f"expected 1 to {batch} pictures, got {len(pixels)}")
        for picture in pixels:
            if picture.dtype != np.uint8 or list(picture.shape) != shape:
                raise ValueError(f"expected uint8 {shape}, got {picture.dtype} {list(picture.shape)}")
        with self._starting:
            lane, before = self._lanes[self._turn], self._pending[self._turn]
            if before is not None:
                before.take()
                self._pending[self._turn] = None
            for number, picture in enumerate(pixels):
                lane.pixels[number] = picture
            lane.launch()
            started = self._pending[self._turn] = _Pending(lane, len(pixels))
            self._turn = (self._turn + 1) % len(self._lanes)
        return started.take


class _Pending:
    """A batch that was launched."""

    def __init__(self, lane: Lane, count: int) -> None:
        self._lane, self._count = lane, count
        self._found: NDArray[np.float32] | None = None
        self._taking = threading.Lock()

    def take(self) -> NDArray[np.float32]:
        with self._taking:
            if self._found is None:
                self._found = self._lane.result()[: self._count].copy()
            return self._found


class CpuLane:
    """A lane whose device is the CPU: `launch` computes."""

    def __init__(self, tower: Tower, batch: int, size: int) -> None:
        self._tower = tower
        self._batch = torch.zeros((batch, size, size, 3), dtype=torch.uint8)
        self.pixels: NDArray[np.uint8] = self._batch.numpy()

    def launch(self) -> None:
        """Encode `pixels`."""
        self._result: NDArray[np.float32] = self._tower(self._batch).numpy()

    def result(self) -> NDArray[np.float32]:
        """The embeddings, [B, D]."""
        return self._result


class CudaLane:
    """A lane on a GPU: pinned memory on the host, copies beside the computing, nothing that stops the stream.

    Args:
        tower: the model.
        batch: B.
        size: S.
        dim: D.
        copying: stream for copies to the device, shared by all lanes.
        computing: stream for the model, likewise.
        graph: replay the model's kernels as a CUDA graph, captured here.
    """

    def __init__(
        self,
        tower: Tower,
        batch: int,
        size: int,
        dim: int,
        copying: torch.cuda.Stream,
        computing: torch.cuda.Stream,
        *,
        graph: bool = False,
    ) -> None:
        self._tower, self._copying, self._computing = tower, copying, computing
        shape = (batch, size, size, 3)
        self._pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._batch = torch.zeros(shape, dtype=torch.uint8, device=computing.device)
        self._found = torch.empty((batch, dim), dtype=torch.float32, pin_memory=True)
        self.pixels: NDArray[np.uint8] = self._pinned.numpy()
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        # A thread that spins takes a core from decoding.
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(computing.device)
        self._graph = _Graph(tower, self._batch, computing) if graph else None

    def launch(self) -> None:
        """Queue the copy, the model and the copy back."""
        with torch.cuda.stream(self._copying):
            self._batch.copy_(self._pinned, non_blocking=True)
            self._copied.record(self._copying)
        with torch.cuda.stream(self._computing):
            self._computing.wait_event(self._copied)
            found = self._graph.replay() if self._graph is not None else self._tower(self._batch)
            self._found.copy_(found, non_blocking=True)
            self._done.record(self._computing)

    def result(self) -> NDArray[np.float32]:
        """Wait for the embeddings, [B, D]."""
        self._done.synchronize()
        found: NDArray[np.float32] = self._found.numpy()
        return found


class _Graph:
    """The kernels of a model, recorded once for one place in memory."""

    def __init__(self, tower: Tower, batch: torch.Tensor, stream: torch.cuda.Stream) -> None:
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries set themselves up in their first calls, which cannot be recorded
                tower(batch)
        torch.cuda.synchronize(batch.device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._found = tower(batch)

    def replay(self) -> torch.Tensor:
        self._graph.replay()
        return self._found

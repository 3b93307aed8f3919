"""Objects on their way to the model: looked up, fetched and decoded side by side, a bounded number and size at a time."""

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from moderation.errors import ErrorCode, ImageError, StorageError
from moderation.images.budget import MemoryBudget
from moderation.images.decoding import DecodedImage
from moderation.images.pdq import pdq
from moderation.model.jpeg_decoder import JpegDecoder, ReadyPicture
from moderation.model.preprocessing import Preprocessing
from moderation.records import ObjectRef
from moderation.scoring.decision_rows import Embedded, Failure
from moderation.scoring.options import ScorerOptions
from moderation.scoring.stage_clock import Clock
from moderation.scoring.workers import Workers

WINDOW_BYTES = 256 << 20
"""How many bytes of objects may be held, fetched or about to be, of all calls together."""
DECODE_BYTES = 1 << 30
"""How much memory all decode threads may take together for pixels."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An object that is ready for the model."""

    row: Embedded
    pixels: list[NDArray[np.uint8]]
    """[S, S, 3] of each frame; none if another object of the call has the same bytes"""


Outcome = Prepared | Failure


@dataclass(frozen=True, slots=True)
class _Task:
    """An object on its way."""

    ref: ObjectRef
    size: int
    """bytes of the window that it holds"""
    call: "_Call"
    data: bytes = b""
    """the object's, once it is fetched"""


_Done = tuple["_Call", Outcome | BaseException]


class Preparer:
    """The threads that fetch and decode. Thread-safe.

    Calls take their turns: one hands its objects in when the one before has handed in all of its own, so that the end of
    one overlaps with the beginning of the next, and they do not all end at once.

    Args:
        preprocessing: the model's.
        options: limits and threads.
        read: how an object's bytes are had. Raises `StorageError`.
        look_up: how an object that is named by its URI only is found. Raises `StorageError`.
        jpeg_decoder: asked before Pillow.
        md5: whether the MD5 of each object is wanted beside its SHA-256.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        options: ScorerOptions,
        *,
        read: Callable[[ObjectRef], bytes],
        look_up: Callable[[str], ObjectRef],
        jpeg_decoder: JpegDecoder | None = None,
        md5: bool = False,
    ) -> None:
        self._preprocessing = preprocessing
        self._md5 = md5
        self._limits = options.limits
        self._read, self._look_up = read, look_up
        self._jpeg_decoder = jpeg_decoder
        self._memory = MemoryBudget(DECODE_BYTES)
        self._window = MemoryBudget(WINDOW_BYTES, give_back=lambda: None)
        decode_threads = options.decode_threads or os.cpu_count() or 1
        self._ahead = 2 * (options.fetch_threads + decode_threads)
        self._turn = threading.Lock()
        self._fetchers = ThreadPoolExecutor(options.fetch_threads, "fetch")
        self._decoders = ThreadPoolExecutor(decode_threads, "decode")
        self._fetching: Workers[_Task, _Done] = Workers(self._fetchers, options.fetch_threads, self._fetch, _deliver)
        self._decoding: Workers[_Task, _Done] = Workers(self._decoders, decode_threads, self._decode, _deliver)

    def close(self) -> None:
        """End the threads, once they have done what they were given."""
        self._fetchers.shutdown(wait=False)
        self._decoders.shutdown(wait=False)

    def prepared(self, refs: Sequence[ObjectRef], clock: Clock) -> Generator[Outcome]:
        """One outcome for each object, in any order. Close the iterator if it is left early: others wait for their turn."""
        call = _Call(clock)
        with self._turn:
            for ref in self._located(refs, call):
                while call.waiting >= self._ahead:
                    yield call.next()
                self._submit(ref, call)
        while call.waiting:
            yield call.next()

    def _located(self, refs: Sequence[ObjectRef], call: "_Call") -> Iterator[ObjectRef | Failure]:
        """The same objects in order. Those without an ETag are looked up, a bounded number ahead of the caller."""
        ahead: deque[ObjectRef | Future[ObjectRef | Failure]] = deque()
        for ref in refs:
            ahead.append(ref if ref.etag else self._fetchers.submit(self._find, ref, call))
            if len(ahead) > self._ahead:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())

    def _submit(self, ref: ObjectRef | Failure, call: "_Call") -> None:
        call.waiting += 1
        if isinstance(ref, Failure):
            call.done.put([ref])
            return
        size = min(ref.size, self._limits.max_bytes)
        self._window.take(size)
        try:
            self._fetching.add(_Task(ref, size, call))
        except BaseException:
            self._window.free(size)
            raise

    def _find(self, ref: ObjectRef, call: "_Call") -> ObjectRef | Failure:
        try:
            with call.clock.measure("fetch"):
                return self._look_up(ref.uri)
        except StorageError as error:
            return Failure(ref, error.code, error.detail)

    def _fetch(self, task: _Task) -> _Done | None:
        """In a fetch thread: fetch, and hand over to a decode thread."""
        try:
            data = self._fetched(task.ref, task.call)
            if not isinstance(data, Failure):
                self._decoding.add(replace(task, data=data))
                return None
            outcome: Outcome | BaseException = data
        except BaseException as error:  # noqa: BLE001 - raised in the call
            outcome = error
        self._window.free(task.size)
        return task.call, outcome

    def _fetched(self, ref: ObjectRef, call: "_Call") -> bytes | Failure:
        if ref.size > self._limits.max_bytes:
            return Failure(ref, ErrorCode.TOO_LARGE, f"{ref.size:,} bytes; the limit is {self._limits.max_bytes:,}")
        try:
            with call.clock.measure("fetch"):
                return self._read(ref)
        except StorageError as error:
            return Failure(ref, error.code, error.detail)

    def _decode(self, task: _Task) -> _Done:
        """In a decode thread: decode."""
        try:
            outcome: Outcome | BaseException = self._decoded(task.ref, task.data, task.call)
        except BaseException as error:  # noqa: BLE001 - raised in the call
            outcome = error
        self._window.free(task.size)
        return task.call, outcome

    def _decoded(self, ref: ObjectRef, data: bytes, call: "_Call") -> Outcome:
        with call.clock.measure("decode"):
            digest, md5 = digests(data, md5=self._md5)
        pixels: list[NDArray[np.uint8]] = []
        found = call.once.do(digest, lambda: self._picture(ref, digest, md5, data, pixels, call.clock))
        if isinstance(found, ImageError):
            return Failure(ref, found.code, found.detail, digest, md5)
        return Prepared(replace(found, object=ref), pixels)

    def _picture(
        self, ref: ObjectRef, digest: str, md5: str | None, data: bytes, pixels: list[NDArray[np.uint8]], clock: Clock
    ) -> Embedded | ImageError:
        """What is known of a picture; what the model is to see of it is put into `pixels`, frame by frame."""
        prepare = self._preprocessing
        indexes: list[int] = []
        hashes: list[tuple[str, int]] = []
        shown = 0  # which of these frames stands for the image
        try:
            with clock.measure("decode"):
                image = DecodedImage(data, self._limits, prepare.size)
                ready = self._ready(image, data)
            if ready is not None:
                with clock.measure("decode"):
                    hashes.append(pdq(ready.small))
                indexes.append(0)
                pixels.append(ready.pixels)
            else:
                with self._memory.reserve(image.memory), clock.measure("decode"):
                    for index, frame in image.frames():
                        if index == image.primary:
                            shown = len(indexes)
                        hashes.append(pdq(frame, image.colours))
                        indexes.append(index)
                        pixels.append(prepare(frame, image.reduction, image.colours))
                        del frame  # its memory is needed for the next
        except ImageError as error:
            return error
        header = image.header
        return Embedded(
            ref,
            digest,
            header.format,
            header.width,
            header.height,
            header.frames,
            tuple(indexes),
            *hashes[shown],
            image.damaged or None,
            md5,
            tuple(hashes),
        )

    def _ready(self, image: DecodedImage, data: bytes) -> ReadyPicture | None:
        if self._jpeg_decoder is None or image.header.format != "JPEG" or not image.is_plain:
            return None
        return self._jpeg_decoder.decode(data, image.orientation)


_PIECE = 1 << 20
"""Bytes that stay in the processor's cache while both hashes look at them."""


def digests(data: bytes, *, md5: bool) -> tuple[str, str | None]:
    """SHA-256 of an object's bytes, and their MD5 if it is wanted, as hex digits."""
    if not md5:
        return hashlib.sha256(data).hexdigest(), None
    whole, other, view = hashlib.sha256(), hashlib.md5(usedforsecurity=False), memoryview(data)
    for start in range(0, len(data), _PIECE):
        piece = view[start : start + _PIECE]
        whole.update(piece)
        other.update(piece)
    return whole.hexdigest(), other.hexdigest()


class _Call:
    """What is on its way for one call."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.once = _Once()
        self.done: SimpleQueue[list[Outcome | BaseException]] = SimpleQueue()
        self._taken: deque[Outcome | BaseException] = deque()
        self.waiting = 0
        """objects handed in whose outcome has not been taken"""

    def next(self) -> Outcome:
        """The next outcome. Raises what should not have happened on the way to it."""
        if not self._taken:
            self._taken.extend(self.done.get())
        outcome = self._taken.popleft()
        self.waiting -= 1
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class _Once:
    """Work that is done once for equal bytes, whichever thread comes first."""

    def __init__(self) -> None:
        self._known: dict[str, Future[Embedded | ImageError]] = {}
        self._lock = threading.Lock()

    def do(self, digest: str, work: Callable[[], Embedded | ImageError]) -> Embedded | ImageError:
        with self._lock:
            known = self._known.get(digest)
            first = known is None
            if known is None:
                known = self._known[digest] = Future()
        if first:
            try:
                known.set_result(work())
            except BaseException as error:
                known.set_exception(error)
                raise
        return known.result()


def _deliver(done: list[_Done]) -> None:
    """To each call what is its own."""
    by_call: dict[_Call, list[Outcome | BaseException]] = {}
    for call, outcome in done:
        by_call.setdefault(call, []).append(outcome)
    for call, outcomes in by_call.items():
        call.done.put(outcomes)


def _result(found: "ObjectRef | Future[ObjectRef | Failure]") -> ObjectRef | Failure:
    return found.result() if isinstance(found, Future) else found

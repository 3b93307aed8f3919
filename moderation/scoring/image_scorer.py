"""`ImageScorer`: images in, rows out. Runs anywhere: a notebook, a test, a Ray actor.

    refs ─► fetch threads ─► decode threads ─► encode (calling thread) ─► score, decide ─► Arrow rows

The stages overlap: while one batch is on the device, the next objects are being fetched and decoded.
"""

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.errors import ErrorCode, ImageError, StorageError
from moderation.images.budget import MemoryBudget
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import pdq
from moderation.model.encoder import Encoder
from moderation.policy.schema import Policy
from moderation.policy.scoring import CompiledPolicy, TextHead, prompt_texts
from moderation.records import BatchSummary, ObjectRef, ScoredBatch
from moderation.scoring.judging import RowContext
from moderation.scoring.rows import Embedded, Failure, build_rows
from moderation.storage import Store

WINDOW_BYTES = 256 << 20
"""How many bytes of objects may be fetched ahead of the encoder."""
DECODE_BYTES = 1 << 30
"""How much memory all decode threads may take together for pixels."""


def text_head(encoder: Encoder, texts: list[str]) -> TextHead:
    """Embed prompts, for `CompiledPolicy.build`."""
    vectors = encoder.encode_texts(texts)
    return TextHead(dict(zip(texts, vectors, strict=True)), encoder.logit_scale, encoder.logit_bias)


class ImageScorer:
    """Scores images against one policy with one encoder. Thread-safe; `close()` ends its threads.

    Args:
        encoder: the model.
        policy: a policy, whose prompts are embedded here, or one compiled before.
        limits: what is too much of an image.
        fetch_threads: concurrent reads.
        decode_threads: concurrent decodes; Pillow releases the GIL. Default: the CPU cores.
        run_id: what the rows' `run_id` says.
        read: how an object's bytes are had; by default from wherever its URI points.
        look_up: how an object that is named by its URI only, with an empty ETag, is found; by default wherever the URI points.
    """

    def __init__(
        self,
        encoder: Encoder,
        policy: Policy | CompiledPolicy,
        *,
        limits: ImageLimits | None = None,
        fetch_threads: int = 16,
        decode_threads: int | None = None,
        run_id: str = "notebook",
        read: Callable[[ObjectRef], bytes] | None = None,
        look_up: Callable[[str], ObjectRef] | None = None,
    ) -> None:
        if isinstance(policy, Policy):
            policy = CompiledPolicy.build(policy, text_head(encoder, prompt_texts(policy)))
        self.context = RowContext(run_id, policy, encoder.name, encoder.fingerprint)
        self._encoder = encoder
        self._limits = limits or ImageLimits()
        self._read = read or _read_anywhere
        self._look_up = look_up or _look_up_anywhere
        self._memory = MemoryBudget(DECODE_BYTES)
        decode_threads = decode_threads or os.cpu_count() or 1
        self._look_ups = 2 * fetch_threads
        self._window = fetch_threads + decode_threads + 2 * encoder.batch_size
        self._fetchers = ThreadPoolExecutor(fetch_threads, "fetch")
        self._decoders = ThreadPoolExecutor(decode_threads, "decode")
        self._encoding = threading.Lock()

    def __enter__(self) -> "ImageScorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def score(self, images: Sequence[str | Path | ObjectRef]) -> ScoredBatch:
        """Score images: paths, URIs, or objects as a listing gives them.

        Returns:
            Rows in the stored schemas: one decision per image, in any order; images that cannot be scored are error rows.
        """
        clock = _Clock()
        refs = [image if isinstance(image, ObjectRef) else _reference(str(image)) for image in images]
        embedded: list[Embedded] = []
        failures: list[Failure] = []
        vectors: list[NDArray[np.float16]] = []
        pending: list[NDArray[np.uint8]] = []
        frames: dict[str, range] = {}  # by SHA-256 of the image: numbers of its vectors
        taken = 0
        for outcome in self._decoded(refs, clock):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                continue
            embedded.append(outcome.row)
            if outcome.pixels:
                frames[outcome.row.sha256] = range(taken, taken + len(outcome.pixels))
                taken += len(outcome.pixels)
                pending.extend(outcome.pixels)
            while len(pending) >= self._encoder.batch_size:
                vectors.append(self._encode(pending[: self._encoder.batch_size], clock))
                del pending[: self._encoder.batch_size]
        if pending:
            vectors.append(self._encode(pending, clock))
        matrix = np.concatenate(vectors) if vectors else np.empty((0, self._encoder.dim), np.float16)
        if len(frames) < len(embedded):
            matrix = matrix[[number for row in embedded for number in frames[row.sha256]]]
        with clock.measure("score"):
            rows = build_rows(self.context, embedded, matrix, failures, datetime.now(UTC))
        return replace(rows, summary=BatchSummary(rows.summary.counts, clock.seconds))

    def _decoded(self, refs: Sequence[ObjectRef], clock: "_Clock") -> "Iterator[_Decoded | Failure]":
        """Outcomes in order, a bounded number of objects and bytes ahead of the caller."""
        ahead: deque[tuple[int, Future[_Decoded | Failure]]] = deque()
        held = 0
        once = _Once()
        for ref in self._located(refs, clock):
            size = 0 if isinstance(ref, Failure) else min(ref.size, self._limits.max_bytes)
            while ahead and (len(ahead) >= self._window or held + size > WINDOW_BYTES):
                done_size, future = ahead.popleft()
                held -= done_size
                yield future.result()
            fetched = self._fetchers.submit(self._fetch, ref, clock)
            ahead.append((size, self._decoders.submit(self._decode, ref, fetched, once, clock)))
            held += size
        while ahead:
            yield ahead.popleft()[1].result()

    def _located(self, refs: Sequence[ObjectRef], clock: "_Clock") -> Iterator[ObjectRef | Failure]:
        """The same objects in order. Those without an ETag are looked up, a bounded number ahead of the caller."""
        ahead: deque[ObjectRef | Future[ObjectRef | Failure]] = deque()
        for ref in refs:
            ahead.append(ref if ref.etag else self._fetchers.submit(self._find, ref, clock))
            if len(ahead) > self._look_ups:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())

    def _find(self, ref: ObjectRef, clock: "_Clock") -> ObjectRef | Failure:
        try:
            with clock.measure("fetch"):
                return self._look_up(ref.uri)
        except StorageError as error:
            return Failure(ref, error.code, error.detail)

    def _fetch(self, ref: ObjectRef | Failure, clock: "_Clock") -> bytes | Failure:
        if isinstance(ref, Failure):
            return ref
        if ref.size > self._limits.max_bytes:
            return Failure(ref, ErrorCode.TOO_LARGE, f"{ref.size:,} bytes; the limit is {self._limits.max_bytes:,}")
        try:
            with clock.measure("fetch"):
                return self._read(ref)
        except StorageError as error:
            return Failure(ref, error.code, error.detail)

    def _decode(
        self, ref: ObjectRef | Failure, fetched: "Future[bytes | Failure]", once: "_Once", clock: "_Clock"
    ) -> "_Decoded | Failure":
        data = fetched.result()
        if isinstance(ref, Failure):
            return ref
        if isinstance(data, Failure):
            return data
        with clock.measure("decode"):
            digest = hashlib.sha256(data).hexdigest()
        pixels: list[NDArray[np.uint8]] = []
        found = once.do(digest, lambda: self._picture(ref, digest, data, pixels, clock))
        if isinstance(found, ImageError):
            return Failure(ref, found.code, found.detail, digest)
        return _Decoded(replace(found, object=ref), pixels)

    def _picture(
        self, ref: ObjectRef, digest: str, data: bytes, pixels: list[NDArray[np.uint8]], clock: "_Clock"
    ) -> Embedded | ImageError:
        """What is known of a picture; what the model is to see of it is put into `pixels`, frame by frame."""
        prepare = self._encoder.preprocessing
        indexes: list[int] = []
        fingerprint, quality = "", 0
        try:
            with clock.measure("decode"):
                image = DecodedImage(data, self._limits, prepare.size)
            with self._memory.reserve(image.memory), clock.measure("decode"):
                for index, frame in image.frames():
                    if not indexes:
                        fingerprint, quality = pdq(frame)
                    indexes.append(index)
                    pixels.append(prepare(frame))
                    del frame  # its memory is needed for the next
        except ImageError as error:
            return error
        header = image.header
        return Embedded(
            ref, digest, header.format, header.width, header.height, header.frames, tuple(indexes), fingerprint, quality
        )

    def _encode(self, pixels: list[NDArray[np.uint8]], clock: "_Clock") -> NDArray[np.float16]:
        with self._encoding, clock.measure("encode"):
            return self._encoder.encode_images(np.stack(pixels)).astype(np.float16)


@dataclass(frozen=True, slots=True)
class _Decoded:
    row: Embedded
    pixels: list[NDArray[np.uint8]]
    """of each frame; none if another object of the batch has the same bytes"""


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


class _Clock:
    """Busy seconds by stage, summed over threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def measure(self, stage: str) -> "_Lap":
        return _Lap(self, stage)

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class _Lap:
    def __init__(self, clock: _Clock, stage: str) -> None:
        self._clock, self._stage = clock, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._clock.add(self._stage, time.perf_counter() - self._start)


def _result(found: "ObjectRef | Future[ObjectRef | Failure]") -> ObjectRef | Failure:
    return found.result() if isinstance(found, Future) else found


def _read_anywhere(ref: ObjectRef) -> bytes:
    store, key = Store.locate(ref.uri)
    return store.get(key, ref.etag or None)


def _look_up_anywhere(uri: str) -> ObjectRef:
    store, key = Store.locate(uri)
    return store.head(key)


def _reference(location: str) -> ObjectRef:
    """An image by path or URI, to be looked up. One that does not exist becomes an error row."""
    if "://" not in location:
        location = f"file://{Path(location).expanduser().absolute()}"
    # A name that is not UTF-8 cannot go to Parquet; it becomes an error row under its escaped name.
    location = location.encode("utf-8", "backslashreplace").decode()
    return ObjectRef(location, "", 0, datetime.fromtimestamp(0, UTC))

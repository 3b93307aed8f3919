"""Pictures for the pages: re-encoded JPEGs, made on demand by other processes, since the images are hostile."""

import base64
import contextlib
import queue
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field

from moderation.html.thumbnails import Wanted
from moderation.studio.line_process import LineProcess, ProcessDiedError
from moderation.studio.picture_cache import Key, PictureCache
from moderation.studio.picture_process import START, answer, request

SMALL, LARGE = 320, 1400
"""Pixels of the longer side, at most: of a tile, and of the page of an image."""
PROCESSES = 2
GROUP = 12
"""Pictures that are asked for at once: some wait for storage while others are decoded."""
SECONDS = 45.0
"""Time for a group."""
CACHE_BYTES = 512 << 20
MISSING_KEPT = 10_000
MISSING_SECONDS = 60.0
"""After which an image that could not be read is tried again: it may have been the storage."""
_PREFIX = "data:image/jpeg;base64,"


@dataclass
class _Task:
    key: Key
    alone: bool = False
    """whether it is asked for by itself, since a group with it failed"""
    done: "Future[bytes | None]" = field(default_factory=Future)

    @property
    def wanted(self) -> Wanted:
        uri, etag, frame, _ = self.key
        return uri, etag, frame


class Pictures:
    """Makes and keeps pictures. Threads may ask at the same time; two that want the same one share it."""

    def __init__(
        self, *, local_files: bool, processes: int = PROCESSES, cache_bytes: int = CACHE_BYTES, seconds: float = SECONDS
    ) -> None:
        """`local_files`: whether results may name files of this machine."""
        self._local = local_files
        self._seconds = seconds
        self._cache = PictureCache(cache_bytes)
        self._missing: OrderedDict[Key, float] = OrderedDict()
        self._waiting: dict[Key, _Task] = {}
        self._queue: queue.Queue[_Task | None] = queue.Queue()
        self._lock = threading.Lock()
        self._processes = [LineProcess("moderation.studio.picture_process", START) for _ in range(processes)]
        self._threads = [
            threading.Thread(target=self._work, args=(process,), name="pictures", daemon=True) for process in self._processes
        ]
        for thread in self._threads:
            thread.start()

    def picture(self, uri: str, etag: str, frame: int, size: int) -> bytes | None:
        """A JPEG of at most `size` pixels a side; None if the image cannot be read, or is another version by now."""
        key = (uri, etag, frame, size)
        found = self._cache.get(key)
        if found is not None:
            return found
        with self._lock:
            if time.monotonic() < self._missing.get(key, 0.0):
                return None
            task = self._waiting.get(key)
            if task is None:
                task = self._waiting[key] = _Task(key)
                self._queue.put(task)
        return task.done.result()

    def close(self) -> None:
        """End the processes and remove what is kept."""
        for _ in self._threads:
            self._queue.put(None)
        for process in self._processes:
            process.close()
        for thread in self._threads:
            thread.join(5)
        with self._lock:
            for task in self._waiting.values():
                task.done.set_result(None)
            self._waiting.clear()
        self._cache.close()

    def _work(self, process: LineProcess) -> None:
        while (task := self._queue.get()) is not None:
            tasks = [task]
            while not task.alone and len(tasks) < GROUP:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None or more.alone or more.key[3] != task.key[3]:
                    self._queue.put(more)
                    break
                tasks.append(more)
            self._make(process, tasks)

    def _make(self, process: LineProcess, tasks: list[_Task]) -> None:
        size = tasks[0].key[3]
        made: dict[tuple[str, int], str] = {}
        try:
            line = request([task.wanted for task in tasks], size, local_files=self._local)
            made = answer(process.ask(line, self._seconds))
        except (ProcessDiedError, ValueError):
            if len(tasks) > 1:  # one of them did it: which one, shows
                for task in tasks:
                    task.alone = True
                    self._queue.put(task)
                return
        for task in tasks:
            self._finish(task, _jpeg(made.get((task.key[0], task.key[2]), "")))

    def _finish(self, task: _Task, data: bytes | None) -> None:
        if data is not None:
            self._cache.put(task.key, data)
        with self._lock:
            if data is None:
                self._missing[task.key] = time.monotonic() + MISSING_SECONDS
                if len(self._missing) > MISSING_KEPT:
                    self._missing.popitem(last=False)
            if self._waiting.pop(task.key, None) is not None:
                task.done.set_result(data)


def _jpeg(data_uri: str) -> bytes | None:
    if not data_uri.startswith(_PREFIX):
        return None
    with contextlib.suppress(ValueError):
        return base64.b64decode(data_uri.removeprefix(_PREFIX), validate=True)
    return None

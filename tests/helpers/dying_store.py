"""Publishes a run through a `Store` that ends the process after its n-th write: `python dying_store.py FOLDER N`."""

import os
import sys
import threading
from pathlib import Path

from published import JOBS, stage

from moderation.results.publishing import publish
from moderation.storage import Store


class DyingStore(Store):
    """Ends the process, with no farewell, once so many writes are done."""

    def __init__(self, uri: str, writes: int) -> None:
        super().__init__(uri)
        self._left, self._lock = writes, threading.Lock()

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        super().put(key, data, create_only)
        self._count()

    def copy(self, source: str, target: str) -> None:
        super().copy(source, target)
        self._count()

    def delete(self, key: str) -> None:
        super().delete(key)
        self._count()

    def _count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os._exit(9)


if __name__ == "__main__":
    folder, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for writes in range(first, last):
        target = f"{folder}/{writes}"
        paths, manifest, receipts = stage(Store(target), JOBS[0])
        child = os.fork()
        if child == 0:
            publish(DyingStore(target, writes), paths, manifest, receipts)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # noqa: T201

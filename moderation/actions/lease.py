"""One runner at a time for a target, without locks: a lease is an object that only one of several can create.

    _actions/<target>/lease/<epoch>.json

A runner takes the next epoch when the newest lease has ended, and renews its own by taking the next epoch again. A runner
that was stopped for longer than its lease lasts finds that out by its own clock and sends nothing more.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from moderation.common.progress import Progress, tell
from moderation.errors import ErrorCode, OutputError, RunError, StorageError
from moderation.storage import Store

LASTS_S = 120.0
"""Seconds that a lease lasts; a runner that was killed keeps others out no longer than this."""
SKEW_S = 15.0
"""Seconds by which the clocks of two machines may differ."""


class BusyError(RunError):
    """Another runner is at work on the target."""


class LeaseLostError(RunError):
    """Another runner may have taken over: this one must stop."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A lease as it is stored."""

    runner: str
    host: str
    process: int
    until: float
    """seconds since 1970"""
    released: bool = False


class Lease:
    """The right to deliver to a target, renewed by a thread while the context lasts.

    Raises on entering:
        BusyError: another runner holds it, and is alive.
        OutputError: the output cannot be read or written.
    """

    def __init__(self, output: Store, folder: str, lasts_s: float = LASTS_S, skew_s: float = SKEW_S) -> None:
        self._output, self._folder, self._lasts, self._skew = output, f"{folder}lease/", lasts_s, skew_s
        self.runner = secrets.token_hex(8)
        """names this holder"""
        self._epoch, self._until = 0, 0.0
        self._ended, self._lost = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        with _output_errors(self._output):
            self._take()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if not self._lost.is_set() and time.time() < self._until:
            with contextlib.suppress(StorageError, FileExistsError):
                self._write(self._epoch + 1, released=True)
                self._remove_before(self._epoch)

    def check(self) -> None:
        """Raise `LeaseLostError` if another runner may have taken over."""
        if self._lost.is_set() or time.time() >= self._until:
            raise LeaseLostError("another run of `moderate actions` may have taken over: this one stops; nothing is lost")

    def _take(self) -> None:
        epoch, holder = newest(self._output, self._folder)
        if holder is not None and not holder.released and holder.until + self._skew > time.time():
            left = holder.until + self._skew - time.time()
            tell(Progress(f"process {holder.process} on {holder.host} is sending, or was: waiting up to {left:.0f} s to see"))
        while holder is not None and not holder.released:
            left = holder.until + self._skew - time.time()
            if left <= 0:
                break
            # Its runner may be dead. Living ones renew their lease long before it ends.
            time.sleep(min(left, 1.0))
            later, holder = newest(self._output, self._folder)
            if later != epoch and holder is not None and not holder.released:
                raise BusyError(f"another run is at work: process {holder.process} on {holder.host}")
            epoch = later
        try:
            self._write(epoch + 1)
        except FileExistsError:
            raise BusyError("another run began at this moment") from None
        if newest(self._output, self._folder)[0] != self._epoch:  # it took the next ones and removed them since we looked
            raise BusyError("another run began at this moment")
        self._remove_before(self._epoch)

    def _keep(self) -> None:
        while not self._ended.wait(self._lasts / 4):
            if time.time() >= self._until:
                self._lost.set()
                return
            try:
                self._write(self._epoch + 1)
                self._remove_before(self._epoch)
            except FileExistsError:
                self._lost.set()
                return
            except StorageError:
                continue  # the next attempt may succeed, and the lease ends by itself

    def _write(self, epoch: int, released: bool = False) -> None:
        until = time.time() + self._lasts
        holder = Holder(self.runner, socket.gethostname(), os.getpid(), until, released)
        self._output.put(f"{self._folder}{epoch:012d}.json", json.dumps(asdict(holder)).encode(), create_only=True)
        self._epoch, self._until = epoch, until

    def _remove_before(self, epoch: int) -> None:
        for page in self._output.list(self._folder):
            for item in page:
                key = self._output.key_of(item.uri)
                if key < f"{self._folder}{epoch:012d}.json":
                    self._output.delete(key)


def newest(output: Store, folder: str) -> tuple[int, Holder | None]:
    """The newest epoch in a folder of leases, and who has it; 0 and None if there is none. Raises `StorageError`."""
    for _ in range(5):
        keys = [output.key_of(item.uri) for page in output.list(folder) for item in page]
        if not keys:
            return 0, None
        key = max(keys)
        try:
            return int(key.removeprefix(folder).removesuffix(".json")), Holder(**json.loads(output.get(key)))
        except StorageError as error:
            if error.code is not ErrorCode.NOT_FOUND:  # replaced by a newer one at this moment
                raise
        except (ValueError, TypeError):
            raise OutputError(f"{output.uri_of(key)} is not a lease of this program") from None
    raise OutputError(f"cannot read {output.uri_of(folder)}: its files keep changing")


@contextlib.contextmanager
def _output_errors(output: Store) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri}: {error.detail}") from None

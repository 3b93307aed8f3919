"""Waiting on Ray without outliving it.

When the raylet of a driver's machine dies, Ray ends the driver too: at its next touch of the object store, or about 12 s
later, with exit code 1 and not a word; when the GCS dies, after 60 s. So the driver looks after them itself, once a second
and before whatever touches the object store, and says what happened while it still can. Of a cluster that it joined it knows
no processes: there a thread looks at the raylet and at the GCS's port, and has the last word if the driver is busy elsewhere.
"""

import contextlib
import math
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray._private import worker  # there is no public way to the processes that `ray.init` started
from ray.util.client import ray as client

from moderation.errors import RunError

PULSE_S = 1.0
"""Seconds between two looks."""
VITAL = ("raylet", "gcs_server")
KNOCK_S, GONE_S = 5.0, 30.0
"""Seconds between two looks at a cluster's GCS, and how long it may give no answer: it may be restarting."""
LAST_WORD_S = 6.0
"""Seconds that the driver has to notice for itself that Ray is dead."""


class _Watch:
    """What this process knows of the Ray it uses."""

    def __init__(self, run_id: str | None = None) -> None:
        self.go_on = f"--run-id {run_id}" if run_id else "the same --run-id"
        self.as_client = client.is_connected()
        self.reason: str | None = None
        """what died, as the thread has seen it"""
        self.noticed = threading.Event()


_watch = _Watch()


@contextlib.contextmanager
def watching(run_id: str | None) -> Iterator[None]:
    """Look after the Ray that this process uses; errors raised because it died say how to resume the run.

    Raises:
        RunError: Ray died, and what was being done has failed with it.
    """
    global _watch  # noqa: PLW0603 - as there is one Ray to a process
    before, _watch = _watch, _Watch(run_id)
    stop, stopped = os.pipe()
    raylet = _raylet_of_this_machine()
    thread = threading.Thread(target=_look_after, args=(_watch, raylet, stop), name="watch-ray", daemon=True)
    thread.start()
    try:
        yield
    except ConnectionError:
        check_ray()  # as a client, whatever is asked of Ray raises this once the connection is lost
        raise
    finally:
        os.close(stopped)
        thread.join()
        os.close(stop)
        if raylet is not None:
            os.close(raylet)
        _watch = before


def ray_died() -> str | None:
    """What died of the Ray that this process uses, in words. Costs microseconds."""
    node = worker._global_node
    reason = _watch.reason
    if node is not None:
        dead = (f"its {kind} ended with code {process.returncode}" for kind, process in node.dead_processes() if kind in VITAL)
        reason = next(dead, reason)
    elif _watch.as_client and not client.is_connected():
        reason = "the connection to the cluster is lost"
    if reason:
        _watch.noticed.set()
    return reason


def check_ray() -> None:
    """Raise `RunError` if the Ray that this process uses has died."""
    reason = ray_died()
    if reason:
        raise RunError(_said(reason))


def _said(reason: str) -> str:
    where = "the Ray cluster is gone" if _watch.as_client else "Ray on this machine died"
    return f"{where} ({reason}): completed work is kept; resume with {_watch.go_on}"


def _look_after(watch: _Watch, raylet: int | None, stop: int) -> None:
    """Until `stop` closes: is the process behind the descriptor `raylet` alive, and does the GCS answer?"""
    node = worker._global_node
    gcs = None if node is None or node.all_processes else str(node.gcs_address)
    events = select.poll()
    events.register(stop, select.POLLHUP)
    if raylet is not None:
        events.register(raylet, select.POLLIN)
    answered = time.monotonic()
    while watch.reason is None:
        ready = [descriptor for descriptor, _ in events.poll(KNOCK_S * 1000)]
        if stop in ready:
            return
        if ready:
            watch.reason = "its raylet ended"
        elif gcs is None or _answers(gcs):
            answered = time.monotonic()
        elif time.monotonic() - answered > GONE_S:
            watch.reason = f"its head does not answer at {gcs}"
    if not watch.noticed.wait(LAST_WORD_S):
        print(f"error: {_said(watch.reason)}", file=sys.stderr, flush=True)  # noqa: T201 - nobody else will say it


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()
    except OSError:
        return False
    return True


def _raylet_of_this_machine() -> int | None:
    """A descriptor that is readable once the raylet ends. None as a client, which has none."""
    node = worker._global_node
    if node is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(node.raylet_socket_name)
            peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return os.pidfd_open(struct.unpack("3i", peer)[0])
        except OSError:
            return None  # an older kernel


def wait(references: list[Any], timeout: float = math.inf) -> Any:
    """One that is done, as soon as there is one; None if the time is up before.

    Raises:
        RunError: Ray died meanwhile.
    """
    until = time.monotonic() + timeout
    while True:
        left = max(0.0, until - time.monotonic())
        check_ray()
        done, _ = ray.wait(references, timeout=min(PULSE_S, left))
        check_ray()
        if done or left <= PULSE_S:
            return done[0] if done else None


def is_done(reference: Any) -> bool:
    """Whether it has come back, perhaps unseen while this process was busy elsewhere."""
    done, _ = ray.wait([reference], timeout=0)
    return bool(done)

"""Waiting on Ray, and reporting when it dies.

Ray ends a driver whose raylet died: at the driver's next touch of the object store, or about 12 s later, with exit code 1 and
without a message. So the driver checks before each touch, and once a second while it waits, and says what happened first.

The message is lost, and the process ends with code 1, if the raylet dies while the driver does something else for 12 s or
longer, or if the head of a cluster that it joined falls silent for 60 s while the raylet here lives. The run resumes as ever.
"""

import contextlib
import math
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import worker  # there is no public way to the raylet that `ray.init` started or joined
from ray.util.client import ray as client

from moderation.errors import RunError

PULSE_S = 1.0
"""Seconds between two checks."""
VITAL = ("raylet", "gcs_server")


@dataclass(frozen=True, slots=True)
class _Watched:
    """The Ray that this process uses."""

    resume: str = "the same --run-id"
    as_client: bool = False
    raylet: socket.socket | None = None
    """a connection to the raylet of a cluster that was joined; the kernel closes it when the raylet ends"""


_watched = _Watched()


@contextlib.contextmanager
def watching(run_id: str | None) -> Iterator[None]:
    """Check the Ray that this process has just started or joined; if it dies, the error says how to resume the run.

    Raises:
        RunError: Ray died.
    """
    global _watched  # noqa: PLW0603 - as there is one Ray to a process
    before = _watched
    with contextlib.ExitStack() as stack:
        resume = f"--run-id {run_id}" if run_id else before.resume
        _watched = _Watched(resume, client.is_connected(), _joined_raylet(stack))
        try:
            yield
        except ConnectionError:
            check_ray()  # a client whose connection is lost gets this from every call to Ray
            raise
        finally:
            _watched = before


def _joined_raylet(stack: contextlib.ExitStack) -> socket.socket | None:
    """None for a Ray of this process's own, whose processes it knows, and for a client, which has no raylet."""
    node = worker._global_node
    if node is None or node.all_processes:
        return None
    connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    with contextlib.suppress(OSError):  # it died just now: then reading fails too
        connection.connect(node.raylet_socket_name)
    connection.settimeout(0.0)
    return connection


def ray_died() -> str | None:
    """What died of the Ray that this process uses, in words. Costs microseconds."""
    node = worker._global_node
    if node is not None and node.all_processes:
        vital = ((kind, info.process.poll()) for kind in VITAL for info in node.all_processes.get(kind, ()))
        return next((f"its {kind} ended with code {code}" for kind, code in vital if code is not None), None)
    if _watched.raylet is not None and _is_closed(_watched.raylet):
        return "its raylet ended"
    if _watched.as_client and not client.is_connected():
        return "the connection to the cluster is lost"
    return None


def _is_closed(connection: socket.socket) -> bool:
    try:
        connection.recv(1)
    except BlockingIOError:
        return False  # it is open: a raylet sends nothing unasked
    except OSError:
        return True
    return True


def check_ray() -> None:
    """Raise `RunError` if the Ray that this process uses has died."""
    reason = ray_died()
    if reason:
        where = "the Ray cluster is gone" if _watched.as_client else "Ray on this machine died"
        raise RunError(f"{where} ({reason}): completed work is kept; resume with {_watched.resume}")


def wait(references: list[Any], timeout: float = math.inf) -> Any:
    """The first of `references` to be done, as soon as it is; None if none is within `timeout` seconds.

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

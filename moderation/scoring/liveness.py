"""Waiting on Ray without outliving it.

When the raylet of a driver's machine dies, Ray ends the driver too: at its next touch of the object store, or about 12 s
later, with exit code 1 and not a word; when the GCS dies, after 60 s. So the driver looks after them itself, once a second
and before whatever touches the object store, and says what happened while it still can.
"""

import math
import time
from typing import Any

import ray
from ray._private import worker  # there is no public way to the processes that `ray.init` started

from moderation.errors import RunError

PULSE_S = 1.0
"""Seconds between two looks."""
VITAL = ("raylet", "gcs_server")


def ray_died() -> str | None:
    """What died of the Ray that this process started, in words. Costs microseconds. None for a Ray that it joined."""
    node = worker._global_node
    if node is None:
        return None
    dead = (f"its {kind} ended with code {process.returncode}" for kind, process in node.dead_processes() if kind in VITAL)
    return next(dead, None)


def check_ray() -> None:
    """Raise `RunError` if the Ray that this process started has died."""
    reason = ray_died()
    if reason:
        raise RunError(f"Ray on this machine died ({reason}): what is staged is kept; go on with the same --run-id")


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

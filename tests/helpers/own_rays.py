"""Drivers with a Ray of their own, to be looked at and killed, and what is left of them."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moderation.cluster import cleaner

DRIVER = """
import os, subprocess, sys
import ray
from moderation.cluster.session import ray_session

class Actor:
    def start(self):
        self.child = subprocess.Popen(["sleep", "1000"])
        return os.getpid()

with ray_session(None):
    actor = ray.remote(Actor).remote()
    print("folder", os.path.dirname(ray._private.worker._global_node.temp_dir), flush=True)
    print("actor", ray.get(actor.start.remote()), flush=True)
    for line in sys.stdin:
        pass
print("over", flush=True)
"""
PATIENCE_S = 120.0
"""Seconds for what takes one or two."""


@dataclass
class Driver:
    """A process that has a Ray with one actor, which has a child of its own."""

    process: subprocess.Popen[str]
    folder: Path
    actor: int

    @property
    def processes(self) -> list[int]:
        """Those of its Ray."""
        return cleaner._processes(str(self.folder))


@contextlib.contextmanager
def driver_with_ray(**environment: str) -> Iterator[Driver]:
    """Such a process, up."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command, pipe = [sys.executable, "-c", DRIVER], subprocess.PIPE
    with subprocess.Popen(command, env=clean | environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            said = dict(process.stdout.readline().split() for _ in range(2))
            yield Driver(process, Path(said["folder"]), int(said["actor"]))
        finally:
            process.kill()


def wait_until(done: object, what: str) -> None:
    """Until `done()` is true."""
    deadline = time.monotonic() + PATIENCE_S
    assert callable(done)
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)

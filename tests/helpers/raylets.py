"""Real Ray clusters of several nodes on this machine: each node is a `ray start` of its own, closed by a token."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support import descendants

STARTED = "Ray runtime started."
START = "from ray.scripts.scripts import main; main()"


@dataclass(frozen=True)
class NodeSpec:
    """What a node says it has. GPUs need not be there."""

    cpus: int = 1
    gpus: int = 0
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Raylet:
    """A node that runs."""

    process: subprocess.Popen[bytes]
    temp: Path
    log: Path

    @property
    def pid(self) -> int:
        """Of its raylet process."""
        return self.find("/raylet/raylet ")

    def find(self, mark: str) -> int:
        """The process below it whose command line holds `mark`."""
        [pid] = [pid for pid, name in descendants(self.process.pid).items() if mark in name]
        return pid

    def kill(self) -> None:
        """Lose the node as if its machine went away: everything of it ends at once."""
        below = descendants(self.process.pid)
        for pid in [self.process.pid, *below]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End the node and what is below it."""
        if self.process.poll() is None:
            below = descendants(self.process.pid)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            for pid in [self.process.pid, *below]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.temp, ignore_errors=True)


class RayCluster:
    """A head and the nodes that were added to it. `environment` is what a driver must have in its own to be let in."""

    def __init__(self, head: NodeSpec, environment: Mapping[str, str], client_server: bool) -> None:
        self.token = secrets.token_hex(32)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        self._shared = {**environment, **self.environment}
        port, client_port = free_port(), free_port()
        options = ["--head", f"--port={port}", "--include-dashboard=false"]
        if client_server:
            options.append(f"--ray-client-server-port={client_port}")
        self.address = f"127.0.0.1:{port}"
        self.nodes: list[Raylet] = []
        try:
            self.head = self._start(options, head)
        except BaseException:
            self.stop()
            raise
        self.client_address = f"ray://127.0.0.1:{client_port}"

    def add(self, spec: NodeSpec) -> Raylet:
        """Another node."""
        return self._start([f"--address={self.address}"], spec)

    def stop(self) -> None:
        """End all nodes."""
        for node in reversed(self.nodes):
            node.stop()

    def _start(self, options: Sequence[str], spec: NodeSpec) -> Raylet:
        temp = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))  # sockets lie in it, whose paths may have some 100 characters
        log = temp / "start.log"
        command = [spec.python, "-c", START, "start", "--block", "--disable-usage-stats", f"--temp-dir={temp}"]
        command += [f"--num-cpus={spec.cpus}", f"--num-gpus={spec.gpus}", "--object-store-memory=100000000", *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"RAY_USAGE_STATS_ENABLED": "0", **self._shared, **spec.environment}
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=temp, start_new_session=True
            )
        node = Raylet(process, temp, log)
        self.nodes.append(node)
        deadline = time.monotonic() + 90
        while STARTED not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no Ray node came up:\n{log.read_text()}")
            time.sleep(0.2)
        return node


@contextlib.contextmanager
def ray_cluster_of(
    head: NodeSpec, *others: NodeSpec, environment: Mapping[str, str] | None = None, client_server: bool = False
) -> Iterator[RayCluster]:
    """A cluster for the time of a test. `environment`: of all nodes; `client_server`: whether it can be joined by `ray://`."""
    cluster = RayCluster(head, environment or {}, client_server)
    try:
        for spec in others:
            cluster.add(spec)
        yield cluster
    finally:
        cluster.stop()


def bare_python(folder: Path) -> str:
    """A Python that has the libraries of this one and not this product, as the nodes of a cluster have."""
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    libraries = Path(sys.prefix).glob("lib/python*/site-packages")  # path files in it are not followed from here
    (site / "libraries.pth").write_text("\n".join(map(str, libraries)))
    return str(folder / "bin" / "python")


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port

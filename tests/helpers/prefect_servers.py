"""Real Prefect servers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def prefect_server(home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server on loopback; gives the environment in which it is found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    with open(home / "server.log", "w") as log:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    if httpx.get(f"{environment['PREFECT_API_URL']}/health", timeout=5).is_success:
                        break
                except httpx.HTTPError:
                    pass
                assert process.poll() is None, (home / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.5)
            yield environment
        finally:
            process.terminate()
            process.wait(30)

"""A Prefect server and a process worker, as processes, for tests of deployments; and a receiver of webhooks."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
from places import ROOT

POOL = "moderation"
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Prefect:
    """A server with a work pool; its environment is what clients need to find it."""

    def __init__(self, home: Path) -> None:
        port = free_port()
        self.home = home
        self.api = f"http://127.0.0.1:{port}/api"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "DO_NOT_TRACK": "1",
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start("server", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        until(self._answers, 180, "Prefect's server does not answer", home / "server.log")
        self.run("work-pool", "create", POOL, "--type", "process")

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.api}/health", timeout=5).is_success
        return False

    def _start(self, log: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.home / f"{log}.log", "ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
                env=self.environment,
                cwd=ROOT,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def run(self, *arguments: str, cwd: Path = ROOT) -> str:
        """A command of Prefect's; its output."""
        return command([sys.executable, "-m", "prefect", "--no-prompt", *arguments], self.environment, cwd)

    def worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", "worker", "start", "--pool", POOL, "--type", "process")

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Of the API; made again while SQLite is busy, or the whole machine."""
        for attempt in range(5):
            try:
                answer = httpx.request(method, f"{self.api}{path}", timeout=60, **more)
            except httpx.ReadTimeout:
                if attempt == 4:
                    raise
                continue
            if answer.status_code != 503:
                break
            time.sleep(1)
        return answer

    def get(self, path: str, **more: Any) -> Any:
        answer = self.request("GET", path, **more)
        assert answer.is_success, answer.text
        return answer.json()

    def post(self, path: str, content: Any = None) -> Any:
        answer = self.request("POST", path, json=content or {})
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/deployments/name/{name}")
        return found

    def pause_schedules(self) -> None:
        for name in ("moderate/nightly", "moderate/hourly"):
            self.post(f"/deployments/{self.deployment(name)['id']}/pause_deployment")

    def start_run(self, deployment: str, parameters: dict[str, Any], **more: Any) -> str:
        found = self.deployment(deployment)
        run = self.post(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters, **more})
        return str(run["id"])

    def flow_run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/flow_runs/{run_id}")
        return found

    def wait(self, run_id: str, states: tuple[str, ...] = FINAL, seconds: float = 240) -> dict[str, Any]:
        """The flow run, as soon as its state is one of these types."""
        until(lambda: self.flow_run(run_id)["state_type"] in states, seconds, f"still not {states}", self.home / "worker.log")
        return self.flow_run(run_id)

    def states(self, run_id: str) -> list[dict[str, Any]]:
        """All that it had, the first one first."""
        rows: list[dict[str, Any]] = httpx.get(
            f"{self.api}/flow_run_states/", params={"flow_run_id": run_id}, timeout=30
        ).json()
        return sorted(rows, key=lambda row: str(row["timestamp"]))

    def logs(self, run_id: str) -> str:
        rows = self.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(row["message"] for row in rows)

    def stop(self) -> None:
        for process in reversed(self._processes):
            end(process)


def command(words: list[str], environment: dict[str, str], cwd: Path = ROOT) -> str:
    done = subprocess.run(words, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and what it started there."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def until(holds: Callable[[], bool], seconds: float, otherwise: str, log: Path | None = None) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        told = log.read_text()[-3000:] if log and log.exists() else ""
        assert time.monotonic() < deadline, f"{otherwise}\n{told}"
        time.sleep(0.5)


@contextlib.contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Where notifications go: a URL on loopback, and what came there."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", received
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()

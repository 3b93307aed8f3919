"""Nothing that a run starts can be reached from another machine, and what can be reached from this one wants a secret."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from ports import Listener, answer, listeners
from raylets import NodeSpec, free_port, ray_cluster_of
from support import descendants

from moderation.demo import POLICY_FILE

pytestmark = pytest.mark.slow

OWN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""A token of the user's, for some cluster."""


@dataclass
class Observed:
    """What was seen of a run while it lasted."""

    answers: dict[Listener, str] = field(default_factory=dict)
    """of all listeners"""
    output: str = ""
    code: int = -1
    files: tuple[str, ...] = ()
    """in the home folder"""


STRANGER = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='error'); print('let in')"


def stranger(gcs: str, **environment: str) -> str:
    """What somebody on this machine gets who joins a Ray with what is in their environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    once = {"RAY_gcs_server_port_wait_time_s": "0", **environment}
    done = subprocess.run([sys.executable, "-c", STRANGER, gcs], env=clean | once, capture_output=True, text=True, check=False)
    return "refused" if "InvalidAuthToken" in done.stderr and done.returncode else done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(demo_images: Path, prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """A default run of the command on a few images, observed from beside it."""
    folder = tmp_path_factory.mktemp("ports")
    (folder / "in").mkdir()
    for path in sorted(path for path in demo_images.rglob("*.png"))[:20]:
        shutil.copy(path, folder / "in")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PREFECT_"))}
    environment |= {"PREFECT_HOME": str(prefect_home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "HOME": str(folder), **OWN}
    command = [sys.executable, "-m", "moderation.cli", "run", "in", "-p", str(POLICY_FILE), "-o", "out"]
    observed = Observed()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 600
            while process.poll() is None:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                known = {listener for listener, said in observed.answers.items() if not said.startswith("nothing")}
                for listener in listeners(process.pid) - known:  # one that has just come up may not answer yet
                    observed.answers[listener] = answer(listener)
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
    observed.output, observed.code = (folder / "log").read_text(), process.returncode
    observed.files = tuple(str(path) for path in folder.glob(".ray/*"))
    return observed


def test_nothing_can_be_reached_from_another_machine(run: Observed) -> None:
    assert run.code == 0, run.output
    seen = " ".join(listener.process for listener in run.answers)
    assert all(name in seen for name in ("the run", "/gcs_server ", "/raylet ", "flows.server_process"))
    assert [listener for listener in run.answers if not listener.on_loopback] == []


def test_a_token_of_the_users_for_some_cluster_goes_nowhere(run: Observed) -> None:
    assert run.files == ()
    assert OWN["RAY_AUTH_TOKEN"] not in run.output


def test_no_port_answers_without_the_runs_secrets(run: Observed) -> None:
    """Prefect's server wants its password, Ray's processes the run's certificate. `test_other_user.py` tries with TLS."""
    server = {said for listener, said in run.answers.items() if "flows.server_process" in listener.process}
    assert server == {"refused"}
    ray = {listener.process: said for listener, said in run.answers.items() if "flows.server_process" not in listener.process}
    assert {process: said for process, said in ray.items() if not said.startswith("nothing")} == {}


def test_the_port_search_finds_an_open_port() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server, socket.create_server(("::1", 0), family=socket.AF_INET6) as other:  # noqa: S104
        found = {(listener.host, listener.port): listener.on_loopback for listener in listeners(os.getpid())}
        assert found[("0.0.0.0", server.getsockname()[1])] is False  # noqa: S104
        assert found[("::1", other.getsockname()[1])] is True


def test_the_port_search_distinguishes_who_is_let_in_from_who_is_refused() -> None:
    with ray_cluster_of(NodeSpec(1), environment={}) as cluster:
        assert stranger(cluster.address) == "refused"
        assert stranger(cluster.address, **cluster.environment) == "let in\n"
        found = {listener.process: answer(listener) for listener in listeners(cluster.head.process.pid)}
        assert {said for process, said in found.items() if "/gcs_server " in process or "/raylet " in process} == {"refused"}


PASSWORD = "operator:" + secrets.token_hex(8)


@pytest.fixture
def prefect_server(prefect_home: Path) -> Iterator[str]:
    """A Prefect server that asks for a password."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(prefect_home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment |= {"PREFECT_SERVER_API_AUTH_STRING": PASSWORD}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
    try:
        deadline = time.monotonic() + 600  # a hundred migrations, on a machine that may be busy
        url = f"http://127.0.0.1:{port}/api"
        while True:
            assert time.monotonic() < deadline
            try:
                httpx.get(f"{url}/health", trust_env=False)
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        yield url
    finally:
        below = descendants(process.pid)
        process.terminate()
        process.wait(20)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_prefect_refuses_whoever_has_no_password(
    prefect_server: str, demo_images: Path, prefect_home: Path, tmp_path: Path
) -> None:
    name, _, password = PASSWORD.partition(":")
    for login, status in ((None, 401), ((name, "wrong"), 401), ((name, password), 200)):
        said = httpx.post(f"{prefect_server}/flows/count", json={}, auth=login, trust_env=False)
        assert said.status_code == status
    command = [
        sys.executable,
        "-m",
        "moderation.cli",
        "run",
        demo_images,
        "--limit",
        "5",
        "-p",
        POLICY_FILE,
        "-o",
        tmp_path / "out",
    ]
    for login, code in (({"PREFECT_API_AUTH_STRING": PASSWORD}, 0), ({}, 2)):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": prefect_server, **login}
        done = subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert password not in done.stdout + done.stderr

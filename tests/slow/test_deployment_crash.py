"""Flow runs that are killed, alone or with their worker, go on by themselves and end published under the same run id."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed import Prefect, command, end, until
from support import descendants

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import published_manifests
from moderation.results.read_run import read_decisions
from moderation.storage import Store

pytestmark = pytest.mark.slow

AUTOMATIONS = """
from datetime import timedelta
from flows.automations import set_up
set_up(dead_after=timedelta(seconds=75))
"""
"""A heart beats every 30 seconds: Prefect allows no less."""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server with the deployments and the automations that make crashed runs go on."""
    server = Prefect(tmp_path_factory.mktemp("prefect"))
    try:
        server.run("deploy", "--all")
        server.pause_schedules()
        command([sys.executable, "-W", "ignore", "-c", AUTOMATIONS], server.environment)
        yield server
    finally:
        server.stop()


@pytest.fixture
def worker(prefect: Prefect) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for the time of a test."""
    process = prefect.worker()
    yield process
    end(process)


def begun(prefect: Prefect, output: Path) -> str:
    """A run of the demo images in small shards, with a shard staged; its flow run's id."""
    settings: dict[str, Any] = {
        "sources": [str(IMAGES_DIR)],
        "policy": str(POLICY_FILE),
        "output": str(output),
        "device": "cpu",
        "shard_size": 8,
        "batch_size": 8,
        "decode_threads": 1,
    }
    run = prefect.start_run("moderate/nightly", {"settings": settings})
    until(lambda: any(output.glob("_staging/*/receipts/*")), 240, "nothing is staged", prefect.home / "worker.log")
    return run


def kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def finished(prefect: Prefect, run: str, output: Path, attempts: int) -> None:
    """The flow run ends published, as one run that has every image once."""
    ended = prefect.wait(run, ("COMPLETED", "FAILED", "CANCELLED"), 400)
    assert (ended["state_name"], ended["run_count"]) == ("Completed", attempts), ended["state"]["message"]
    (manifest,) = published_manifests(Store(str(output)))
    assert run.endswith(manifest.run_id.rpartition("-")[2])
    assert (manifest.unchanged, manifest.scored + manifest.errored) == (0, manifest.listed)
    uris = read_decisions(Store(str(output)), manifest)["uri"].to_pylist()
    assert len(uris) == len(set(uris)) == manifest.listed
    assert not list(output.glob("_staging/*/*"))


def test_a_killed_flow_run_is_resumed(prefect: Prefect, worker: subprocess.Popen[bytes], tmp_path: Path) -> None:
    output = tmp_path / "out"
    run = begun(prefect, output)
    started = descendants(worker.pid)
    (driver,) = [process for process, words in started.items() if words.rstrip().endswith("prefect.engine")]
    kill([driver])
    finished(prefect, run, output, attempts=2)
    left = [words for process, words in started.items() if "ray" in words and Path(f"/proc/{process}").exists()]
    assert left == []


def test_a_run_killed_with_its_worker_is_noticed_and_resumed(
    prefect: Prefect, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run = begun(prefect, output)
    kill([worker.pid, *descendants(worker.pid)])
    assert prefect.flow_run(run)["state_type"] == "RUNNING"  # for all that Prefect knows
    until(lambda: prefect.flow_run(run)["state_name"] == "AwaitingRetry", 200, "nobody noticed", prefect.home / "server.log")
    names = [state["name"] for state in prefect.states(run)]
    assert names[-2:] == ["Crashed", "AwaitingRetry"]
    prefect.worker()
    finished(prefect, run, output, attempts=2)

"""Whose turn it is: sources that are the same, and attempts of one flow run, of which the one taken for dead stops."""

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

from flows.source_lock import overlap
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import published_manifests
from moderation.results.read_run import read_decisions
from moderation.storage import Store

STOPPED = "another attempt of this flow run has started: this one stops and leaves the work to it"
FENCED = """
import sys
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import Abort
from prefect.states import Crashed, Pending, Running
from flows.flow_failures import current_flow_run
from flows.source_lock import Fence
from moderation.common.progress import Progress

@flow(name="fenced", retries=1)
def fenced(stage):
    own = current_flow_run()
    fences = {"scoring": Fence(every_s=0), "publishing": Fence(every_s=3600)}
    for fence in fences.values():
        fence(Progress("publishing"))
    if own.run_count == 1:
        raise OSError("a retry is an attempt of its own, with a fence of its own")
    with get_client(sync_client=True) as client:  # as the automations do, and then a worker
        for state in (Crashed(), Pending(), Running()):
            client.set_flow_run_state(own.id, state, force=True)
    fences["publishing"](Progress("scoring"))
    print(own.id, "retried, and not due")
    fences[stage](Progress(stage))
    print("not stopped")

for stage in ("scoring", "publishing"):
    try:
        fenced(stage)
    except Abort as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("some", "others", "same"),
    [
        (("s3://shop/a",), ("s3://shop/a",), True),
        (("s3://shop/a",), ("s3://shop/a/b/",), True),
        (("s3://shop/a/b",), ("s3://shop/x", "s3://shop/a"), True),
        (("s3://shop/a",), ("s3://shop/ab",), False),
        (("s3://shop",), ("s3://shops",), False),
        ((), ("s3://shop",), False),
    ],
)
def test_sources_are_the_same_where_one_lies_inside_the_other(
    some: tuple[str, ...], others: tuple[str, ...], same: bool
) -> None:
    assert overlap(some, others) is overlap(others, some) is same


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server that has the deployments of the repository, and starts none of them by itself."""
    server = Prefect(tmp_path_factory.mktemp("prefect"))
    try:
        server.run("deploy", "--all")
        server.pause_schedules()
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_an_attempt_stops_once_another_has_begun_and_leaves_the_state_alone(prefect: Prefect) -> None:
    said = command([sys.executable, "-W", "ignore", "-c", FENCED], prefect.environment).splitlines()
    told = [line for line in said if "retried" in line or line in (STOPPED, "not stopped")]
    assert [line.partition(" ")[2] for line in told[::2]] == ["retried, and not due"] * 2
    assert told[1::2] == [STOPPED] * 2
    for line in told[::2]:
        run = prefect.flow_run(line.partition(" ")[0])
        assert (run["state_type"], run["run_count"]) == ("RUNNING", 3)


@contextlib.contextmanager
def hanging(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process and all below it stand still, as a machine that hangs."""
    below = [process.pid, *descendants(process.pid)]
    try:
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_a_run_marked_as_crashed_that_is_still_alive_publishes_nothing_twice(prefect: Prefect, tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings: dict[str, Any] = {
        "sources": [str(IMAGES_DIR)],
        "policy": str(POLICY_FILE),
        "output": str(output),
        "device": "cpu",
        "shard_size": 8,
        "batch_size": 8,
        "decode_threads": 1,
    }
    first = prefect.worker()
    run = prefect.start_run("moderate/nightly", {"settings": settings})
    until(lambda: any(output.glob("_staging/*/receipts/*")), 240, "nothing is staged", prefect.home / "worker.log")
    (driver,) = [pid for pid, words in descendants(first.pid).items() if words.rstrip().endswith("prefect.engine")]
    with hanging(first):
        for state in ({"type": "CRASHED"}, {"type": "SCHEDULED", "name": "AwaitingRetry"}):  # as the automations do
            prefect.post(f"/flow_runs/{run}/set_state", {"state": state, "force": True})
        second = prefect.worker()
        until(lambda: prefect.flow_run(run)["run_count"] == 2, 240, "no second attempt", prefect.home / "worker.log")
    ended = prefect.wait(run, seconds=400)
    until(lambda: not Path(f"/proc/{driver}").exists(), 240, "the first attempt goes on", prefect.home / "worker.log")
    assert STOPPED in prefect.logs(run)
    assert prefect.flow_run(run)["state"] == ended["state"]
    assert (ended["state_name"], ended["run_count"]) == ("Completed", 2), ended["state"]["message"]
    (manifest,) = published_manifests(Store(str(output)))
    assert (manifest.unchanged, manifest.scored + manifest.errored) == (0, manifest.listed)
    uris = read_decisions(Store(str(output)), manifest)["uri"].to_pylist()
    assert len(uris) == len(set(uris)) == manifest.listed
    for process in (first, second):
        end(process)

"""The Prefect flow against a real Prefect server, started for the test."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cut_off import link_to
from prefect_servers import prefect_server

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import published_manifests
from moderation.storage import Store

RUN = """
import sys
from flows.moderate import moderate
from moderation import RunSettings
source, policy, output = sys.argv[1:]
moderate(RunSettings(sources=source, policy=policy, output=output))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


def test_a_run_on_a_server_has_a_task_per_stage_and_its_artifacts(server: dict[str, str], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((IMAGES_DIR / "uploads").iterdir())[:6]:
        shutil.copy(path, images)
    arguments = [str(images), str(POLICY_FILE), str(tmp_path / "out")]
    found = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, env=server, check=False, timeout=240
    )
    assert found.returncode == 0, found.stderr
    (manifest,) = published_manifests(Store(str(tmp_path / "out")))
    assert manifest.listed == 6

    api = server["PREFECT_API_URL"]
    (flow_run,) = httpx.post(f"{api}/flow_runs/filter", json={}).json()  # this test is the first on the server
    assert flow_run["state_type"] == "COMPLETED"
    assert flow_run["id"].endswith(manifest.run_id.rpartition("-")[2])
    tasks = httpx.post(f"{api}/task_runs/filter", json={}).json()
    assert {t["name"].rpartition("-")[0] for t in tasks} == {
        "check inputs",
        "start workers",
        "score",
        "check quality",
        "publish",
        "report",
    }
    artifacts = {a["key"]: a for a in httpx.post(f"{api}/artifacts/filter", json={}).json()}
    assert set(artifacts) == {"moderation-progress", "moderation-summary", "moderation-rules", "moderation-report"}
    assert artifacts["moderation-progress"]["data"] == 100.0
    assert manifest.run_id in artifacts["moderation-summary"]["data"]
    assert "weapons" in artifacts["moderation-rules"]["data"]
    assert manifest.report in artifacts["moderation-report"]["data"]


RUN_WITH = """
import json, sys
from flows.moderate import moderate
from moderation import RunSettings
moderate(RunSettings(**json.loads(sys.argv[1])))
"""


def cut_off_while_scoring(server: dict[str, str], images: Path, output: Path, seconds: float) -> list[int]:
    """A run whose server hangs from its first staged shard until it is published, and for some seconds at least.

    Returns how many shards were staged, second by second, while the server hung.
    """
    settings: dict[str, Any] = {"sources": str(images), "policy": str(POLICY_FILE), "output": str(output), "run_id": "cut"}
    settings |= {"shard_size": 8, "batch_size": 8, "decode_threads": 1}
    staged: list[int] = []
    with link_to(httpx.URL(server["PREFECT_API_URL"]).port or 0) as link, open(output.with_suffix(".log"), "w+") as log:
        environment = {**server, "PREFECT_API_URL": f"http://127.0.0.1:{link.port}/api"}
        command = [sys.executable, "-c", RUN_WITH, json.dumps(settings)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

        def until(event: Any) -> None:
            deadline = time.monotonic() + 600
            while not event():
                assert process.poll() is None, Path(log.name).read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.2)

        try:
            until(lambda: any(output.glob("_staging/cut/receipts/*")))
            link.cut()
            for _ in range(int(seconds)):
                staged.append(len(list(output.glob("_staging/cut/receipts/*"))))
                time.sleep(1)
            until((output / "runs" / "cut.json").exists)
            assert link.held  # it had something to say
            link.restore()
            process.wait(400)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, Path(log.name).read_text()[-3000:]
        assert "Traceback" not in Path(log.name).read_text()
    (flow_run,) = [
        run
        for run in httpx.post(f"{server['PREFECT_API_URL']}/flow_runs/filter", json={}).json()
        if run["parameters"]["settings"].get("run_id") == "cut" and str(output) in run["parameters"]["settings"]["output"]
    ]
    assert flow_run["state_type"] == "COMPLETED"
    return staged


def test_a_run_is_scored_and_published_while_prefects_server_hangs(server: dict[str, str], tmp_path: Path) -> None:
    cut_off_while_scoring(server, IMAGES_DIR / "listings", tmp_path / "out", 0)


@pytest.mark.slow
def test_shards_are_scored_while_prefects_server_hangs_for_a_minute(server: dict[str, str], tmp_path: Path) -> None:
    images = tmp_path / "images"
    for copy in range(12):
        shutil.copytree(IMAGES_DIR / "uploads", images / str(copy))
    staged = cut_off_while_scoring(server, images, tmp_path / "out", 60)
    for second in range(0, 40, 10):  # a minute and more, where each update waited for an answer
        before, after = staged[second], staged[second + 19]
        assert after > before or after == 0, staged


FAIL_ONCE = """
import sys
from flows.moderate import moderate
from moderation import RunSettings, pipeline
source, policy, output = sys.argv[1:]
stage, failed = getattr(pipeline, "{stage}"), []
def once(*arguments):
    if not failed:
        failed.append(1)
        raise OSError("the machine went away")
    return stage(*arguments)
pipeline.{stage} = once
moderate.with_options(retries=1)(RunSettings(sources=source, policy=policy, output=output))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["check", "report"])
def test_a_retry_resumes_the_run_that_the_flow_run_began(server: dict[str, str], tmp_path: Path, stage: str) -> None:
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(next((IMAGES_DIR / "listings").iterdir()), images)
    command = [sys.executable, "-c", FAIL_ONCE.format(stage=stage), str(images), str(POLICY_FILE), str(tmp_path / "out")]
    found = subprocess.run(command, capture_output=True, text=True, env=server, check=False, timeout=240)
    assert found.returncode == 0, found.stderr
    (manifest,) = published_manifests(Store(str(tmp_path / "out")))
    assert (manifest.listed, manifest.unchanged) == (1, 0)
    runs = httpx.post(f"{server['PREFECT_API_URL']}/flow_runs/filter", json={}).json()
    (flow_run,) = [run for run in runs if run["id"].endswith(manifest.run_id.rpartition("-")[2])]
    assert (flow_run["state_type"], flow_run["run_count"]) == ("COMPLETED", 2)


def test_the_parameters_of_the_flow_make_a_form(server: dict[str, str]) -> None:
    from flows.moderate import moderate

    schema = moderate.parameters.model_dump()
    definition = schema["definitions"]["RunSettings"]
    assert set(definition["required"]) == {"policy", "output"}
    assert all("description" in field for field in definition["properties"].values())

"""The deployments and automations on a real Prefect server, with a real worker and a real webhook."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed import POOL, ROOT, Prefect, command, until, webhook

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import published_manifests
from moderation.storage import Store

pytestmark = pytest.mark.slow

AUTOMATIONS = """
from flows.automations import set_up
import sys
print(*set_up(sys.argv[1:]), sep="\\n")
"""
BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
data = {"subject": "{{subject}}", "body": "{{body}}"}
CustomWebhookNotificationBlock(name="pager", url=sys.argv[1], json_data=data).save("pager", overwrite=True)
"""

PROBE = """
import os, pathlib
from prefect import flow

@flow
def probe(path: str):
    pathlib.Path(path).write_text(os.environ["MODERATION_PROBE"])
"""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server that has the deployments of the repository."""
    server = Prefect(tmp_path_factory.mktemp("prefect"))
    try:
        server.run("deploy", "--all")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def worker(prefect: Prefect) -> None:
    """A worker; the schedules are switched off, or they would begin runs of their own at some times of the day."""
    prefect.pause_schedules()
    prefect.worker()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Of a run over four images."""
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((IMAGES_DIR / "uploads").iterdir())[:4]:
        shutil.copy(path, images)
    return {"sources": [str(images)], "policy": str(POLICY_FILE), "output": str(tmp_path / "out"), "device": "cpu"}


def python(prefect: Prefect, code: str, *arguments: str) -> str:
    return command([sys.executable, "-W", "ignore", "-c", code, *arguments], prefect.environment)


def test_the_deployments_stand_on_the_server_as_the_file_says(prefect: Prefect) -> None:
    prefect.run("deploy", "--all")  # again, which changes nothing
    nightly, hourly = prefect.deployment("moderate/nightly"), prefect.deployment("moderate/hourly")
    backtest, act = prefect.deployment("backtest/policy-backtest"), prefect.deployment("act/act")
    assert nightly["schedules"][0]["schedule"] == {"cron": "0 2 * * *", "timezone": "UTC", "day_or": True}
    assert hourly["schedules"][0]["schedule"]["interval"] == 3600
    assert (len(nightly["schedules"]), len(hourly["schedules"]), backtest["schedules"]) == (1, 1, [])
    assert [d["parameters"].get("when_busy") for d in (nightly, hourly, backtest)] == ["wait", "cancel", None]
    assert act["schedules"][0]["schedule"]["interval"] == 900
    for deployment in (nightly, hourly, backtest, act):
        assert "clip-moderation" in deployment["tags"]
        assert deployment["description"]
        assert deployment["enforce_parameter_schema"] is True
        assert deployment["work_pool_name"] == POOL
        assert deployment["job_variables"]["env"]["PREFECT_FLOWS_DEFAULT_RETRIES"] == "2"
        assert deployment["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
    form = nightly["parameter_openapi_schema"]
    assert set(form["properties"]) == {"settings", "when_busy"}
    assert form["properties"]["when_busy"]["enum"] == ["wait", "cancel"]
    assert all("description" in one for one in form["definitions"]["RunSettings"]["properties"].values())


def test_the_schedules_make_flow_runs(prefect: Prefect) -> None:
    def scheduled() -> set[str]:
        runs = prefect.post("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}})
        return {run["deployment_id"] for run in runs if run["auto_scheduled"]}

    wanted = {prefect.deployment(f"moderate/{name}")["id"] for name in ("nightly", "hourly")}
    until(lambda: wanted <= scheduled(), 120, "nothing is scheduled", prefect.home / "server.log")


def test_parameters_that_fit_no_run_are_refused_before_anything_starts(prefect: Prefect, settings: dict[str, Any]) -> None:
    found = prefect.deployment("moderate/nightly")
    for wrong in ({"settings": {**settings, "batch_size": 0}}, {"settings": settings, "when_busy": "x"}, {"settings": {}}):
        answer = prefect.request("POST", f"/deployments/{found['id']}/create_flow_run", json={"parameters": wrong})
        assert answer.status_code == 409, answer.text
        assert "Validation failed" in answer.text


def test_automations_are_made_once_and_brought_up_to_date(prefect: Prefect) -> None:
    first = python(prefect, AUTOMATIONS).splitlines()
    assert [name.partition(": ")[2] for name in first] == [
        "mark dead runs as crashed",
        "resume crashed runs",
        "restart lost runs",
    ]
    python(prefect, BLOCK, "http://127.0.0.1:9/hook")
    second = python(prefect, AUTOMATIONS, "custom-webhook/pager").splitlines()
    assert second[:3] == first
    assert [name.partition(": ")[2] for name in second[3:]] == ["quarantined", "warned", "failed"]
    assert python(prefect, AUTOMATIONS, "custom-webhook/pager").splitlines() == second
    there = [automation["name"] for automation in prefect.post("/automations/filter")]
    assert sorted(there) == sorted(second)
    with pytest.raises(AssertionError, match="Prefect has no block 'slack-webhook/nobody'"):
        python(prefect, AUTOMATIONS, "slack-webhook/nobody")


def test_the_check_asks_the_server_for_pools_and_the_variables_they_accept(prefect: Prefect, tmp_path: Path) -> None:
    check = [sys.executable, "-m", "moderation.cli", "deploy", "--check", "--file"]
    assert "is ready" in command([*check, "prefect.yaml"], prefect.environment)

    text = (ROOT / "prefect.yaml").read_text().replace("moderation/demo", str(ROOT / "moderation" / "demo"))
    text = text.replace("{env: *environment}", "{env: *environment, stream_output: 5551234}", 1)
    (tmp_path / "prefect.yaml").write_text(text.replace("name: *work_pool", "name: nowhere").replace("nowhere", POOL, 1))
    (tmp_path / "flows").symlink_to(ROOT / "flows")
    with pytest.raises(AssertionError) as refused:
        command([*check, str(tmp_path / "prefect.yaml")], prefect.environment)
    told = str(refused.value)
    assert f"work pool '{POOL}' refuses the job variable `stream_output` of 'nightly': its type should be 'boolean'" in told
    assert told.count("there is no work pool 'nowhere': prefect work-pool create nowhere --type process") == 1
    assert "5551234" not in told


def under_way(prefect: Prefect, settings: dict[str, Any]) -> str:
    """A flow run of the same source that is at work, as far as Prefect knows."""
    run = prefect.start_run("moderate/nightly", {"settings": settings}, state={"type": "PENDING"})
    prefect.post(f"/flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    return run


@pytest.mark.usefixtures("worker")
def test_a_second_run_of_a_source_is_cancelled_or_waits_and_says_so(prefect: Prefect, settings: dict[str, Any]) -> None:
    first = under_way(prefect, settings)
    inside = {**settings, "sources": [f"{settings['sources'][0]}/deeper"]}
    cancelled = prefect.start_run("moderate/hourly", {"settings": inside, "when_busy": "cancel"})
    waiting = prefect.start_run("moderate/nightly", {"settings": settings, "when_busy": "wait"})

    ended = prefect.wait(cancelled)
    assert ended["state_type"] == "CANCELLED"
    assert f"({first}) moderates the same source: this one was cancelled" in ended["state"]["message"]
    assert "Traceback" not in prefect.logs(cancelled)

    until(lambda: "waiting for it to end" in prefect.logs(waiting), 120, "does not say that it waits")
    assert prefect.flow_run(waiting)["state_type"] == "RUNNING"
    assert not Path(settings["output"]).exists()

    prefect.post(f"/flow_runs/{first}/set_state", {"state": {"type": "COMPLETED"}, "force": True})
    assert prefect.wait(waiting)["state_type"] == "COMPLETED"
    (manifest,) = published_manifests(Store(settings["output"]))
    assert manifest.listed == 4
    assert waiting.endswith(manifest.run_id.rpartition("-")[2])


@pytest.mark.usefixtures("worker")
def test_a_quarantined_run_ends_failed_and_sends_a_notification(
    prefect: Prefect, settings: dict[str, Any], tmp_path: Path
) -> None:
    source = Path(settings["sources"][0])
    for number in range(30):
        (source / f"<!channel>-{number}.jpg").write_bytes(b"no image %d" % number)
    with webhook() as (url, received):
        python(prefect, BLOCK, url)
        python(prefect, AUTOMATIONS, "custom-webhook/pager")
        run = prefect.start_run("moderate/nightly", {"settings": settings})
        ended = prefect.wait(run)
        assert (ended["state_type"], ended["state_name"], ended["run_count"]) == ("FAILED", "Quarantined", 1)
        until(lambda: bool(received), 60, "nobody was told", prefect.home / "server.log")
    run_id = next((tmp_path / "out" / "_quarantine").iterdir()).name
    assert run.endswith(run_id.rpartition("-")[2])
    message = ended["state"]["message"]
    report = f"reports/{run_id}/report.html"
    for words in (run_id, "error_rate", report, "moderate runs release"):
        assert words in message
    (told,) = received
    assert told["subject"].startswith("Quarantined, nothing was published: ")
    assert "error_rate" in told["subject"]
    for words in (run_id, "error_rate", "30 of 34", report, f"/runs/flow-run/{run}", "Listed 34, scored 4, errors 30"):
        assert words in told["body"], told["body"]
    assert "<" not in told["body"]
    links = [artifact["data"] for artifact in prefect.post("/artifacts/filter") if artifact["key"] == "moderation-report"]
    assert any(report in link for link in links)
    assert "Traceback" not in prefect.logs(run)


@pytest.mark.usefixtures("worker")
def test_a_run_with_wrong_settings_is_tried_once_and_sends_a_notification(prefect: Prefect, settings: dict[str, Any]) -> None:
    with webhook() as (url, received):
        python(prefect, BLOCK, url)
        python(prefect, AUTOMATIONS, "custom-webhook/pager")
        run = prefect.start_run("moderate/nightly", {"settings": {**settings, "policy": "nowhere.yaml"}})
        ended = prefect.wait(run)
        assert (ended["state_name"], ended["run_count"]) == ("Failed", 1)
        assert "cannot read the policy 'nowhere.yaml'" in ended["state"]["message"]
        until(lambda: bool(received), 60, "nobody was told", prefect.home / "server.log")
    assert "cannot read the policy 'nowhere.yaml'" in received[0]["body"]
    assert run in received[0]["body"]
    assert "Traceback" not in prefect.logs(run)


@pytest.mark.usefixtures("worker")
def test_an_attempt_that_takes_too_long_is_stopped(prefect: Prefect, settings: dict[str, Any]) -> None:
    first = under_way(prefect, settings)
    environment = {**prefect.deployment("moderate/nightly")["job_variables"]["env"], "PREFECT_FLOWS_DEFAULT_RETRIES": "0"}
    variables = {"env": {**environment, "MODERATION_TIME_LIMIT_S": "6"}}
    run = prefect.start_run("moderate/nightly", {"settings": settings}, job_variables=variables)
    ended = prefect.wait(run)
    assert (ended["state_type"], ended["state_name"]) == ("FAILED", "TimedOut")
    assert "timeout of 6" in ended["state"]["message"]
    prefect.post(f"/flow_runs/{first}/set_state", {"state": {"type": "COMPLETED"}, "force": True})


@pytest.mark.usefixtures("worker")
def test_a_block_in_the_work_pool_reaches_the_flow_run_and_nobody_else(prefect: Prefect, tmp_path: Path) -> None:
    secret = "a-secret-that-must-not-leak"
    save = 'from prefect.blocks.system import Secret; import sys; Secret(value=sys.argv[1]).save("probe", overwrite=True)'
    python(prefect, save, secret)
    path = f"/work_pools/{POOL}"
    template = prefect.get(path)["base_job_template"]
    changed = {**template, "job_configuration": {**template["job_configuration"]}}
    changed["variables"]["properties"]["env"]["default"] = {"MODERATION_PROBE": "{{ prefect.blocks.secret.probe }}"}
    assert prefect.request("PATCH", path, json={"base_job_template": changed}).is_success

    (tmp_path / "probe.py").write_text(PROBE)
    prefect.run("deploy", "probe.py:probe", "--name", "probe", "--pool", POOL, cwd=tmp_path)
    run = prefect.start_run("probe/probe", {"path": str(tmp_path / "seen")})
    assert prefect.wait(run)["state_type"] == "COMPLETED"
    assert (tmp_path / "seen").read_text() == secret
    stored = [prefect.get(path), prefect.logs(run), prefect.flow_run(run), prefect.deployment("probe/probe")]
    assert secret not in str(stored)

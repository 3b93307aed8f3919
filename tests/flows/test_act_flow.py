"""Acting on decisions as a flow, against a real Prefect server, a real S3 API and a real receiver."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from acted import GUN, NUDE, publish_images
from prefect_servers import prefect_server
from webhook_receiver import KEY, Receiver, Reply, verified

from moderation.storage import Store

RUN = """
import json, sys
from prefect.blocks.system import Secret
Secret(value=sys.argv[2]).save("hook-key", overwrite=True)
from flows.act import ActSettings, act
for settings in json.loads(sys.argv[1]):
    state = act(ActSettings(**settings), return_state=True)
    print(json.dumps([state.type.value, state.message, state.result() if state.is_completed() else None]))
assert not {"ray", "torch"} & set(sys.modules), "nothing is scored here"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


def run(server: dict[str, str], *settings: dict[str, object]) -> tuple[list[list[Any]], str]:
    """The final state, its message and the result of flow runs, one for each of some settings, and what they logged."""
    environment = {**os.environ, **{name: server[name] for name in ("PREFECT_HOME", "PREFECT_API_URL")}}
    command = [sys.executable, "-c", RUN, json.dumps(settings), KEY]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(found) == len(settings), done.stderr
    return found, done.stdout + done.stderr


def everything(server: dict[str, str], what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.post(f"{server['PREFECT_API_URL']}/{what}/filter", json={}).json()
    return found


def test_decisions_are_sent_once_a_target_is_live_and_a_target_that_is_down_fails_the_flow_run(
    server: dict[str, str], s3_endpoint: str, tmp_path: Path
) -> None:
    boto3.client("s3").create_bucket(Bucket="act-flow")
    empty, results = "s3://act-flow/empty", "s3://act-flow/results"
    publish_images(Store(results))

    def after_the_first(number: int, message: dict[str, Any]) -> Reply:
        return Reply() if number == 0 else Reply(429, {"Retry-After": "86400"})

    with Receiver(after_the_first) as receiver:
        (tmp_path / "actions.yaml").write_text(
            "targets: [{name: trust, actions: [block], webhook: {secret: {prefect_block: hook-key}, "
            f"url: '{receiver.url}', connections: 1}}}}]"
        )
        actions = str(tmp_path / "actions.yaml")
        found, logged = run(
            server,
            {"results": empty, "actions": actions},
            {"results": results, "actions": actions},
            {"results": results, "actions": actions, "live": True},
            {"results": results, "actions": actions, "targets": ["other"]},
            {"results": results, "actions": str(tmp_path / "none.yaml")},
        )
        down = "it asks to wait for 86400 s: HTTP 429 Too Many Requests: {}"
        stopped = f"trust: delivered 1, refused 0, waiting 1; given up for now: {down}"
        assert [one[0] for one in found] == ["COMPLETED", "COMPLETED", "FAILED", "FAILED", "FAILED"]
        assert found[0][2] == "no run is published yet"
        assert found[1][2] == "trust: not live: would send 2 block"
        assert found[2][1] == stopped
        assert "there is no target 'other': there are trust" in found[3][1]
        assert "cannot read the actions" in found[4][1]

        receiver.script = lambda number, message: Reply()
        resumed, more = run(server, {"results": results, "actions": actions})
        assert resumed[0][2] == "trust: delivered 1, refused 0, waiting 0"
    assert receiver.actions() == {GUN: ["block"], NUDE: ["block"]}
    assert all(verified(message) for message in receiver.messages)
    artifacts = [artifact["data"] for artifact in everything(server, "artifacts") if artifact["key"] == "actions-summary"]
    assert any(f"| trust | 1 | 0 | 1 | {down} |" in data for data in artifacts)
    assert {task["name"].rpartition("-")[0] for task in everything(server, "task_runs")} >= {"check inputs"}
    assert "send to trust" in {task["name"] for task in everything(server, "task_runs")}
    flow_runs = everything(server, "flow_runs")
    assert f"actions on {results}" in {flow_run["name"] for flow_run in flow_runs}
    for text in (logged, more, json.dumps(flow_runs), json.dumps(artifacts)):
        assert KEY not in text
        assert KEY.removeprefix("whsec_") not in text
        assert "Traceback" not in text


def test_the_parameters_of_the_flow_make_a_form() -> None:
    from flows.act import act

    definition = act.parameters.model_dump()["definitions"]["ActSettings"]
    assert set(definition["required"]) == {"results", "actions"}
    assert all("description" in field for field in definition["properties"].values())

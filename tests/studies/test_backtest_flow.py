"""The backtest as a flow, against a real Prefect server and a real S3 API."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pyarrow.parquet as pq
import pytest
from prefect_servers import prefect_server
from published import POLICY_TEXT
from vector_results import Image, publish_vectors

from moderation.policy_files.loading import parse_policy
from moderation.query.connection import connect
from moderation.results.manifest import published_manifests
from moderation.results.retention import leftovers
from moderation.results.runs import all_runs
from moderation.storage import Store

RESULTS = "s3://moderation/results"
RUN = """
import json, sys
from flows.backtest import BacktestSettings, backtest
for settings in json.loads(sys.argv[1]):
    state = backtest(BacktestSettings(**settings), return_state=True)
    print(json.dumps([state.type.value, state.message]))
assert not {"ray", "torch"} & set(sys.modules), "nothing is scored here"
"""
IMAGES = [
    Image("s3://shop/listings/gun.jpg", [[0.875]]),
    Image("s3://shop/listings/it's | a [rifle](x) `.jpg", [[0.53125]]),
    Image("s3://shop/users/face.jpg", [[0.0625, 0.25]]),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


@pytest.fixture(scope="module")
def results(s3_endpoint: str) -> Store:
    """Three images and a broken one, in a bucket."""
    boto3.client("s3").create_bucket(Bucket="moderation")
    output = Store(RESULTS)
    publish_vectors(output, IMAGES, parse_policy(POLICY_TEXT), POLICY_TEXT, broken=["s3://shop/users/broken.jpg"])
    return output


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Blocks firearms from 0.5 on, not 0.75, and what cannot be read as well."""
    text = POLICY_TEXT.replace("review: 0.5, block: 0.75", "block: 0.5", 1).replace("unreadable: review", "unreadable: block")
    (tmp_path / "stricter.yaml").write_text(text)
    return tmp_path / "stricter.yaml"


def run(server: dict[str, str], *settings: dict[str, object]) -> tuple[list[list[str]], str]:
    """The final state and its message of flow runs, one for each of some settings, and what they logged."""
    environment = {**os.environ, **{name: server[name] for name in ("PREFECT_HOME", "PREFECT_API_URL")}}
    command = [sys.executable, "-c", RUN, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(found) == len(settings)
    return found, done.stdout + done.stderr


def newest(server: dict[str, str], what: str) -> list[dict[str, Any]]:
    """What the newest flow run has of something."""
    api = server["PREFECT_API_URL"]
    (flow_run,) = httpx.post(f"{api}/flow_runs/filter", json={"limit": 1, "sort": "START_TIME_DESC"}).json()
    if what == "flow_runs":
        return [flow_run]
    return httpx.post(f"{api}/{what}/filter", json={"flow_runs": {"id": {"any_": [flow_run["id"]]}}}).json()


def test_what_would_change_is_shown_and_kept_beside_the_results(server: dict[str, str], results: Store, policy: Path) -> None:
    ((state, message),), logged = run(server, {"policy": str(policy), "results": RESULTS, "max_new_blocks": "90%"})
    assert (state, "Traceback" in logged) == ("COMPLETED", False), message
    (flow_run,) = newest(server, "flow_runs")
    assert (flow_run["state_type"], flow_run["name"]) == ("COMPLETED", f"stricter on {RESULTS}")
    assert {task["name"].rpartition("-")[0] for task in newest(server, "task_runs")} == {
        "check inputs",
        "embed prompts",
        "re-decide",
        "report",
    }
    artifacts = {artifact["key"]: artifact["data"] for artifact in newest(server, "artifacts")}
    assert set(artifacts) == {"backtest-summary", "backtest-report"}
    summary = artifacts["backtest-summary"]
    assert "4 images, compared with the published decisions" in summary
    assert "**2 get a different decision (50.0%), 2 of them newly blocked (50.0%).**" in summary
    assert "| **review** | 0 | 0 | **2** |" in summary
    assert "| firearms | 2 | 2 | 0 | 0 |" in summary
    assert r"| s3\:\/\/shop\/users\/ | 2 | 1 | 0 | 1 |" in summary

    (page,) = [key for key in keys(results, "backtests/") if key.endswith("/backtest.html")]
    folder = page.rpartition("/")[0]
    assert folder.endswith(f"-{flow_run['id'][-8:]}")
    assert f"{RESULTS}/{page}" in artifacts["backtest-report"]
    html = results.get(page).decode()
    assert "no longer readable" in html  # the bucket of the images is not there
    assert "a [rifle](x) `.jpg" in html
    changed = pq.read_table(results.open(f"{folder}/changed.parquet")).to_pylist()
    assert {(row["uri"], row["before"], row["after"]) for row in changed} == {
        (IMAGES[1].uri, "review", "block"),
        ("s3://shop/users/broken.jpg", "review", "block"),
    }
    for where in (logged, json.dumps(flow_run), json.dumps(artifacts), html):
        assert "a-secret-that-must-not-leak" not in where

    # Neither readers nor those who clean up mind the folder.
    assert not leftovers(results).keys
    assert [found.state for found in all_runs(results)] == ["published"]
    assert len(list(published_manifests(results))) == 1
    with connect(RESULTS) as connection:
        assert connection.sql("SELECT count(*) FROM decisions").fetchall() == [(4,)]


def test_over_the_budget_the_flow_run_fails_and_the_report_is_there(
    server: dict[str, str], results: Store, policy: Path, tmp_path: Path
) -> None:
    (tmp_path / "old.yaml").write_text(POLICY_TEXT)
    settings: dict[str, object] = {
        "policy": str(policy),
        "results": RESULTS,
        "against": str(tmp_path / "old.yaml"),
        "where": "uri LIKE '%listings%'",
        "days": 3650,
        "max_new_blocks": "0.1%",
        "images": False,
    }
    ((state, message),), logged = run(server, settings)
    assert (state, "Traceback" in logged) == ("FAILED", False)
    assert message.startswith("1 image becomes blocked that was not, 50.0% of 2: 1 more than the 0 that --max-new-blocks 0.1%")
    report = message.rpartition("; report: ")[2]
    (flow_run,) = newest(server, "flow_runs")
    assert (flow_run["state_type"], flow_run["state"]["message"]) == ("FAILED", message)
    html = results.get(results.key_of(report)).decode()
    assert "Over the budget" in html
    assert "not fetched" in html
    (summary,) = [a["data"] for a in newest(server, "artifacts") if a["key"] == "backtest-summary"]
    assert summary.index("**Over the budget:** 1 image becomes blocked") < summary.index("| --- |")


def test_mistakes_are_one_line_and_no_stack_trace(server: dict[str, str], results: Store, policy: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(POLICY_TEXT.replace("{name: demo}", "{name: RN50, pretrained: openai}"))
    mistakes: list[tuple[dict[str, object], str]] = [
        ({"policy": "no-such.yaml"}, "no-such.yaml"),
        ({"results": "s3://moderation/nothing"}, "no run is published under s3://moderation/nothing"),
        ({"results": "ftp://moderation"}, "cannot read 'ftp://moderation'"),
        ({"where": "colour = 'red'"}, "decisions have no column 'colour'"),
        ({"max_new_blocks": "many"}, "--max-new-blocks: 'many' is not a limit"),
        ({"against": str(tmp_path / "other.yaml")}, "demo and RN50/openai"),
    ]
    found, logged = run(server, *({"policy": str(policy), "results": RESULTS, **wrong} for wrong, _ in mistakes))
    for (state, message), (wrong, told) in zip(found, mistakes, strict=True):
        assert state == "FAILED", wrong
        assert told in message
        assert "\n" not in message
    assert "Traceback" not in logged
    assert not newest(server, "artifacts")


def test_the_parameters_of_the_backtest_flow_make_a_form() -> None:
    from flows.backtest import backtest

    definition = backtest.parameters.model_dump()["definitions"]["BacktestSettings"]
    assert set(definition["required"]) == {"policy", "results"}
    assert all("description" in field for field in definition["properties"].values())


def keys(store: Store, prefix: str) -> list[str]:
    return [store.key_of(item.uri) for page in store.list(prefix) for item in page]

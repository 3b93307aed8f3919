"""The whole product with its real parts as processes: PostgreSQL, Prefect's server and worker, two Ray nodes, an S3 store.

It is taken from a fresh checkout to published runs, by the steps that docker/steps.sh has for compose too; then one part after
another is taken away from a run that is under way. `make test-e2e` runs it, in less than ten minutes of two idle cores. The
tests build on each other, in their order.
"""

import base64
import io
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import boto3
import httpx
import pyarrow.parquet as pq
import pytest
from e2e_parts import Part, Platform, kill, until
from needs import needs_postgres
from support import descendants

from moderation.demo import IMAGES_DIR
from moderation.results.manifest import Manifest, published_manifests
from moderation.results.read_run import read_decisions
from moderation.storage import Store

pytestmark = [pytest.mark.slow, pytest.mark.e2e, needs_postgres]

RESULTS = "s3://moderation/results"
IMAGES = sorted(path for path in IMAGES_DIR.rglob("*") if path.is_file())
EVERY_S = 45
"""Seconds between two runs of the schedule."""
RUN_S = 400.0
"""Seconds for a run, on a machine that others use too."""
AWAY_S = 5.0
"""Seconds that a service is away."""
METRICS_S = 60.0
"""Seconds until the endpoint of a node tells of what was scored: Ray's workers report every ten."""
DEAD_AFTER_S = 75
"""Seconds without a heartbeat after which a flow run is taken for dead: it beats every 30, and Prefect allows no less."""
AUTOMATIONS = f"""
from datetime import timedelta
from flows.automations import set_up
set_up(dead_after=timedelta(seconds={DEAD_AFTER_S}))
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """All parts; the environment of this process leads to the S3 store."""
    parts = Platform(tmp_path_factory.mktemp("e2e"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in parts.aws.items():
            patch.setenv(name, value)
        try:
            yield parts
        finally:
            parts.close()
            sys.stdout.write("".join(f"{seconds:8.1f} s  {name}\n" for name, seconds in parts.took.items()))


@pytest.fixture(scope="module")
def worker(platform: Platform) -> Part:
    return platform.worker()


def manifest_of(flow_run: str, output: str) -> Manifest:
    """The run that the flow run published under `output`: there is one."""
    [found] = [one for one in published_manifests(Store(output)) if flow_run.endswith(one.run_id.rpartition("-")[2])]
    return found


class Slow:
    """A run of its own source that is under way, in small shards, the first of which are staged."""

    def __init__(self, platform: Platform, name: str) -> None:
        self._platform, self.output = platform, f"s3://moderation/{name}"
        client = boto3.client("s3")
        for number, path in enumerate(IMAGES):
            client.upload_file(str(path), "uploads", f"{name}/{number}{path.suffix}")
        settings: dict[str, Any] = {
            "sources": [f"s3://uploads/{name}"],
            "policy": "moderation/demo/policy.yaml",
            "output": self.output,
            "shard_size": 8,
            "batch_size": 8,
            "fetch_threads": 1,
            "decode_threads": 1,
        }
        self.flow_run = platform.api.start_run("moderate/nightly", {"settings": settings})
        logs = platform.logs / "worker.log", platform.logs / "server.log"
        until(self.staged, RUN_S, f"{name}: nothing is staged", *logs)
        platform.lap(f"{name}: staged something")

    def staged(self) -> int:
        """Shards that are."""
        return sum("/receipts/" in item.uri for page in Store(self.output).list("_staging/") for item in page)

    def is_under_way(self) -> bool:
        return not list(published_manifests(Store(self.output)))

    def finished(self, attempts: int) -> Manifest:
        """Wait until it ends published, as one run that has every image once."""
        ended = self._platform.ended(self.flow_run, RUN_S, ("COMPLETED", "FAILED", "CANCELLED"))
        assert ended["state_type"] == "COMPLETED", ended["state"]
        manifest = manifest_of(self.flow_run, self.output)
        assert ended["run_count"] == attempts, self._platform.api.states(self.flow_run)
        assert len(list(published_manifests(Store(self.output)))) == 1
        assert (manifest.listed, manifest.unchanged) == (len(IMAGES), 0)
        uris = read_decisions(Store(self.output), manifest)["uri"].to_pylist()
        assert len(uris) == len(set(uris)) == manifest.scored + manifest.errored == manifest.listed
        assert not [item.uri for page in Store(self.output).list("_staging/") for item in page]
        return manifest


def test_a_fresh_checkout_runs_by_its_schedule(platform: Platform, request: pytest.FixtureRequest) -> None:
    platform.checkout.edit(
        sources="[s3://uploads/demo]", results=RESULTS, hourly_every_s=str(EVERY_S), nightly_at='"0 0 29 2 *"'
    )
    platform.steps("deploy")
    platform.lap("deploy")
    platform.command("moderate", "deploy")
    platform.command("python", "-c", AUTOMATIONS)
    platform.lap("moderate deploy")
    assert httpx.post(f"{platform.api.url}/flow_runs/filter", json={}).status_code == 401
    request.getfixturevalue("worker")
    logs = platform.logs / "worker.log", platform.logs / "server.log"
    [first, *_] = until(platform.api.scheduled, EVERY_S + 90, "the schedule did not fire", *logs)
    platform.api.pause("moderate/nightly", "moderate/hourly")
    platform.lap("fires")
    ended = platform.ended(first["id"], RUN_S)
    platform.lap("first run")
    assert ended["state_type"] == "COMPLETED", ended["state"]
    manifest = manifest_of(first["id"], RESULTS)
    assert (manifest.listed, manifest.unchanged, manifest.scored + manifest.errored) == (len(IMAGES), 0, len(IMAGES))
    shown = platform.api.artifacts(first["id"])
    assert set(shown) == {"moderation-progress", "moderation-summary", "moderation-rules", "moderation-report"}
    assert shown["moderation-progress"] == 100.0
    assert manifest.run_id in shown["moderation-summary"]
    assert f"{RESULTS}/{manifest.report}" in shown["moderation-report"]


def test_the_next_run_processes_nothing_that_is_unchanged(platform: Platform) -> None:
    before = {manifest.run_id for manifest in published_manifests(Store(RESULTS))}
    listed = platform.steps("run_demo")
    platform.lap("run_demo")
    [manifest] = [one for one in published_manifests(Store(RESULTS)) if one.run_id not in before]
    assert (manifest.listed, manifest.unchanged) == (len(IMAGES), len(IMAGES))
    assert manifest.run_id in listed


@pytest.fixture(scope="module")
def killed(platform: Platform, worker: Part) -> Slow:
    """A run that was killed with its worker; another worker is there by now."""
    run = Slow(platform, "killed")
    assert any(words.rstrip().endswith("prefect.engine") for words in descendants(worker.process.pid).values())
    kill(worker.process)
    assert run.is_under_way()
    worker.start()
    return run


@pytest.mark.usefixtures("killed")
def test_a_run_outlives_a_lost_node(platform: Platform) -> None:
    run = Slow(platform, "node")
    node = platform.cluster.nodes[1]
    assert any(words.startswith("ray::_Actor") for words in descendants(node.process.pid).values())
    numbers = {"images": {"outcome": "scored"}, "actions": {"action": "allow"}, "stage_seconds": {"stage": "decode"}}
    for name, labels in numbers.items():
        asked = partial(platform.cluster.sample, f"ray_moderation_{name}_total", policy="demo", **labels)
        until(lambda asked=asked: asked() > 0, METRICS_S, f"Ray does not tell of {name}")
    node.kill()
    assert run.is_under_way()
    run.finished(attempts=1)
    platform.lap("node: finished")


def test_a_run_that_was_killed_with_its_worker_is_resumed(platform: Platform, killed: Slow) -> None:
    killed.finished(attempts=2)
    platform.lap("killed: finished")


def test_a_run_outlives_a_restart_of_the_database(platform: Platform) -> None:
    run = Slow(platform, "database")
    platform.restart_database(AWAY_S)
    platform.lap(f"database: restarted, with {run.staged()} shards staged by then")
    run.finished(attempts=1)
    platform.lap("database: finished")


def test_a_run_outlives_a_restart_of_prefects_server(platform: Platform) -> None:
    run = Slow(platform, "server")
    platform.restart_server(AWAY_S)
    platform.lap(f"server: restarted, with {run.staged()} shards staged by then")
    run.finished(attempts=1)
    platform.lap("server: finished")


def test_no_secret_is_where_others_read(platform: Platform) -> None:
    passwords, token = platform.passwords, platform.cluster.token
    basic = base64.b64encode(f"admin:{passwords.prefect}".encode()).decode()
    secrets = [passwords.database, passwords.prefect, passwords.s3, token, basic]

    def clean(content: str | bytes) -> bool:
        text = content if isinstance(content, str) else content.decode(errors="replace")
        return not any(secret in text for secret in secrets)

    dump, lines, files = platform.database.dump(), list(platform.command_lines()), platform.log_files()
    assert RESULTS in dump
    assert any("raylet" in line for line in lines)
    assert any(path.suffix == ".log" and "session_" in str(path) for path in files)
    assert clean(dump)
    assert all(clean(line) for line in lines)
    assert [str(path) for path in files if not clean(path.read_bytes())] == []
    client = boto3.client("s3")
    found = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="moderation"):
        for item in page["Contents"]:
            body = client.get_object(Bucket="moderation", Key=item["Key"])["Body"].read()
            if item["Key"].endswith(".parquet"):
                table = pq.read_table(io.BytesIO(body))
                body = str([table.schema.metadata, table.to_pydict() if "embeddings/" not in item["Key"] else None]).encode()
            if not clean(item["Key"]) or not clean(body):
                found.append(item["Key"])
    assert found == []
    platform.lap("secrets")

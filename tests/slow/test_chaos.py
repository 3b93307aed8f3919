"""Everything at once: workers, Ray and drivers are killed, storage fails, objects change. The run still ends as it should."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from faulty_proxy import FaultyProxy
from support import descendants

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import Manifest, find_manifest
from moderation.results.read_run import read_decisions, read_scores
from moderation.storage import Store

SEED = 20261121
OBJECTS, CHANGED, DELETED = 5_000, 60, 60
KILLS = ["actor"] * 8 + ["raylet", "driver"] * 2
ATTEMPTS = 12
PREFIX = "up/loads"

pytestmark = pytest.mark.slow


def moderate(output: str, run_id: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "moderation.cli", "run", f"s3://chaos/{PREFIX}", "-p", str(POLICY_FILE), "-o", output]
    quality = log.with_name("quality.yaml")
    quality.write_text("checks: {error_rate: {limit: 0.2}}\n")  # of the demo's images 4 % are broken before anything happens
    command += [
        "--run-id",
        run_id,
        "--full",
        "--shard-size",
        "200",
        "--batch-size",
        "32",
        "--actors",
        "2",
        "--quality",
        str(quality),
    ]
    with log.open("ab") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def kill(what: str, driver: subprocess.Popen[bytes], dice: random.Random) -> bool:
    """Really kill it. False if there is none at this moment."""
    if what == "driver":
        driver.send_signal(signal.SIGKILL)
        return True
    mark = "ray::_Actor" if what == "actor" else "/raylet/raylet "
    found = sorted(pid for pid, name in descendants(driver.pid).items() if mark in name)
    if found:
        os.kill(dice.choice(found), signal.SIGKILL)
    return bool(found)


def upload(images: list[bytes]) -> list[str]:
    client = boto3.client("s3")
    client.create_bucket(Bucket="chaos")
    client.create_bucket(Bucket="chaos-results")
    keys = [f"{PREFIX}/{number % 7}/{number:05}.img" for number in range(OBJECTS)]
    for number, key in enumerate(keys):
        client.put_object(Bucket="chaos", Key=key, Body=images[number % len(images)])
    return keys


def trouble(what: str, key: str, other: bytes) -> None:
    """Take an object away, or put another picture in its place."""
    client = boto3.client("s3")
    if what == "delete":
        client.delete_object(Bucket="chaos", Key=key)
    else:
        client.put_object(Bucket="chaos", Key=key, Body=other)


def rows(output: Store, manifest: Manifest) -> dict[str, tuple[dict[str, object], list[dict[str, object]]]]:
    """Each object's decision and scores, without what differs between runs."""

    def plain(table: pa.Table) -> list[dict[str, object]]:
        names = [name for name in table.column_names if name not in ("run_id", "last_modified", "scored_at")]
        return table.select(names).to_pylist()

    scores: dict[str, list[dict[str, object]]] = {}
    for row in plain(read_scores(output, manifest)):
        scores.setdefault(str(row["uri"]), []).append(row)
    return {str(row["uri"]): (row, scores.get(str(row["uri"]), [])) for row in plain(read_decisions(output, manifest))}


def test_a_run_survives_chaos_and_publishes_the_rows_of_an_undisturbed_run(
    s3_endpoint: str, prefect_home: Path, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    images = [path.read_bytes() for path in sorted(IMAGES_DIR.rglob("*")) if path.is_file()]
    keys = upload(images)
    environment = {**os.environ, "PREFECT_HOME": str(prefect_home)}

    calm = moderate(str(tmp_path / "calm"), "calm", environment, tmp_path / "calm.log")
    assert calm.wait(900) == 0, (tmp_path / "calm.log").read_text()
    calm_store = Store(str(tmp_path / "calm"))
    expected = rows(calm_store, find_manifest(calm_store, "calm"))
    assert len(expected) == OBJECTS

    disturbed = dice.sample(range(OBJECTS), CHANGED + DELETED)
    troubles = [("change", keys[n]) for n in disturbed[:CHANGED]] + [("delete", keys[n]) for n in disturbed[CHANGED:]]
    dice.shuffle(troubles)
    kills = KILLS.copy()
    dice.shuffle(kills)
    log = tmp_path / "chaos.log"
    with FaultyProxy(s3_endpoint, seed=SEED, rate=0.05) as proxy:
        environment["AWS_ENDPOINT_URL"] = proxy.endpoint
        attempts = 0
        ended = None
        while ended != 0:
            attempts += 1
            assert attempts <= ATTEMPTS, log.read_text()[-5000:]
            driver = moderate("s3://chaos-results/out", "chaos", environment, log)
            while (ended := driver.poll()) is None:
                time.sleep(dice.uniform(0.5, 4.0))
                if kills and "ray::_Actor.score" in " ".join(descendants(driver.pid).values()):
                    for what, key in (troubles.pop() for _ in range(min(len(troubles), 15))):
                        trouble(what, key, images[(keys.index(key) + 1) % len(images)])
                    if kill(kills[-1], driver, dice):
                        kills.pop()
        assert sum(proxy.faults.values()) > OBJECTS * 0.03
    assert not kills
    assert not troubles
    assert attempts >= 2
    assert "Traceback" not in log.read_text()

    store = Store("s3://chaos-results/out")
    manifest = find_manifest(store, "chaos")
    assert manifest is not None
    assert manifest.listed == manifest.scored + manifest.errored
    found = rows(store, manifest)
    assert not {"storage_error", "worker_killed", "worker_timeout", "internal"} & set(manifest.counts.errored)
    uris = {f"s3://chaos/{keys[n]}": "changed" if n in set(disturbed[:CHANGED]) else "deleted" for n in disturbed}
    assert {uri for uri in expected if uri not in found} <= {uri for uri, what in uris.items() if what == "deleted"}
    said = 0
    for uri, (decision, scores) in found.items():
        if (decision, scores) != expected[uri]:
            assert uri in uris, decision
            assert decision["error_code"] in ("changed", "not_found") or decision["etag"] != expected[uri][0]["etag"]
            said += 1
    assert said > 0

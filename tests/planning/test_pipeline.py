"""The whole way of an image, on the demo's images, model and policy: real Ray, real files, a real S3 API."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from needs import DATA, needs_data
from stub_run import stub_run
from support import descendants

from moderation import QuarantinedError, RunSettings, SettingsError, Store, pipeline, run
from moderation.cluster import planning_processes
from moderation.common.progress import Progress, listening
from moderation.demo import IMAGES_DIR, LABELS_FILE, POLICY_FILE
from moderation.demo.accuracy import measure
from moderation.pipeline import Outcome
from moderation.planning.inputs import check_inputs
from moderation.query.connection import connect
from moderation.results.manifest import Manifest, published_manifests
from moderation.results.read_run import read_decisions, read_scores
from moderation.results.shard_files import Receipt

pytestmark = pytest.mark.usefixtures("ray_cluster")


def settings(source: Path | str, output: Path | str, **more: object) -> RunSettings:
    return RunSettings.model_validate({"sources": str(source), "policy": str(POLICY_FILE), "output": str(output), **more})


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Outcome]:
    """A published run over the demo images, in one shard."""
    output = tmp_path_factory.mktemp("demo") / "out"
    outcome = run(settings(IMAGES_DIR, output))
    return Store(str(output)), outcome


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A folder with a few of the demo's images, one of them broken."""
    folder = tmp_path / "few"
    folder.mkdir()
    labels = pd.read_csv(LABELS_FILE, dtype=str, keep_default_na=False)
    for name in [*labels[labels.expect != "error"].file[:11], labels[labels.expect == "error"].file.iloc[0]]:
        shutil.copy(IMAGES_DIR / name, folder)
    return folder


def evidence(output: Store, manifest: Manifest, source: str) -> tuple[pa.Table, pa.Table]:
    """Decisions and scores without what differs between runs and sources, keyed by the part of the URI below the source."""

    def comparable(table: pa.Table) -> pa.Table:
        keys = pa.array([uri[len(source) + 1 :] for uri in table["uri"].to_pylist()])
        table = table.set_column(table.schema.get_field_index("uri"), "uri", keys)
        names = [n for n in table.column_names if n not in ("run_id", "etag", "last_modified", "scored_at")]
        order = [("uri", "ascending"), *([("rule", "ascending")] if "rule" in names else [])]
        return table.select(names).sort_by(order).combine_chunks()

    return comparable(read_decisions(output, manifest)), comparable(read_scores(output, manifest))


def test_every_listed_object_is_accounted_for_once(demo: tuple[Store, Outcome]) -> None:
    output, outcome = demo
    manifest = outcome.manifest
    on_disk = sorted(str(p.relative_to(IMAGES_DIR)) for p in IMAGES_DIR.rglob("*") if p.is_file())
    decisions = read_decisions(output, manifest)
    assert manifest.listed == manifest.unchanged + manifest.scored + manifest.errored == len(on_disk)
    assert sorted(u.removeprefix(f"{Store(str(IMAGES_DIR)).uri}/") for u in decisions["uri"].to_pylist()) == on_disk
    assert manifest.scored == pc.sum(pc.equal(decisions["status"], "scored")).as_py()
    assert manifest.errored == pc.sum(pc.equal(decisions["status"], "error")).as_py() == sum(manifest.counts.errored.values())
    assert manifest.counts.blocked == pc.sum(pc.and_(pc.equal(decisions["action"], "block"), decisions["flagged"])).as_py()
    rules = len(check_inputs(settings(IMAGES_DIR, output.uri)).policy.active_rules)
    assert read_scores(output, manifest).num_rows == manifest.scored * rules


def test_broken_images_are_error_rows_with_the_right_code_and_flags_agree_with_labels(demo: tuple[Store, Outcome]) -> None:
    output, outcome = demo
    accuracy = measure(read_decisions(output, outcome.manifest), Store(str(IMAGES_DIR)).uri)
    assert accuracy.errors_expected >= 8
    assert accuracy.errors_found == accuracy.errors_expected == outcome.manifest.errored
    assert accuracy.true_positives + accuracy.false_negatives >= 50
    assert accuracy.precision >= 0.95
    assert accuracy.recall >= 0.95


def test_pandas_polars_and_duckdb_read_the_tables(demo: tuple[Store, Outcome]) -> None:
    output, outcome = demo
    folder = Path(output.uri.removeprefix("file://"))
    for table, count in (
        ("decisions", outcome.manifest.listed),
        ("scores", read_scores(output, outcome.manifest).num_rows),
        ("embeddings", sum(e.rows for e in outcome.manifest.files if e.table == "embeddings")),
    ):
        assert len(pd.read_parquet(folder / table)) == count
        assert pl.read_parquet(folder / table).height == count
        files = f"read_parquet('{folder}/{table}/**/*.parquet', hive_partitioning = true)"
        rows = duckdb.connect().execute(f"select count(*), count(distinct run) from {files}").fetchall()  # noqa: S608
        assert rows == [(count, 1)]


def test_the_manifest_names_every_file_with_its_rows_and_bytes(demo: tuple[Store, Outcome]) -> None:
    output, outcome = demo
    folder = Path(output.uri.removeprefix("file://"))
    stored = json.loads((folder / "runs" / f"{outcome.manifest.run_id}.json").read_text())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}
    assert files == {stored["prompts"], stored["exemplars"], *(file["path"] for file in stored["files"])}
    for file in stored["files"]:
        assert (folder / file["path"]).stat().st_size == file["bytes"]
        assert pq.read_metadata(folder / file["path"]).num_rows == file["rows"]
    assert stored["policy_text"] == POLICY_FILE.read_text()
    assert stored["counts"]["listed"] == stored["listed"]
    assert all(check["passed"] for check in stored["checks"])
    assert stored["timings"]["bottleneck"] in {"fetch", "decode", "encode", "score", "list"}
    assert not (folder / "_staging").exists()


def test_the_report_is_written_and_complete(demo: tuple[Store, Outcome]) -> None:
    output, outcome = demo
    page = output.get(outcome.manifest.report).decode()
    assert outcome.report == output.uri_of(outcome.manifest.report)
    assert page.rstrip().endswith("</html>")
    assert page.count("data:image/jpeg;base64,") >= 20
    assert outcome.manifest.run_id in page


def test_batch_size_actors_and_shard_size_change_nothing(demo: tuple[Store, Outcome], tmp_path: Path) -> None:
    output, outcome = demo
    other = run(settings(IMAGES_DIR, tmp_path / "out", actors=2, batch_size=7, shard_size=101))
    assert len(other.manifest.files) > len(outcome.manifest.files)
    source = Store(str(IMAGES_DIR)).uri
    for mine, theirs in zip(
        evidence(Store(str(tmp_path / "out")), other.manifest, source), evidence(output, outcome.manifest, source), strict=True
    ):
        assert mine.equals(theirs)


def test_the_same_images_through_s3_give_the_same_decisions(demo: tuple[Store, Outcome], s3_endpoint: str) -> None:
    output, outcome = demo
    client = boto3.client("s3")
    client.create_bucket(Bucket="demo-source")
    client.create_bucket(Bucket="demo-results")
    for path in IMAGES_DIR.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "demo-source", f"some/folder/{path.relative_to(IMAGES_DIR)}")
    client.put_object(Bucket="demo-source", Key="some/folder-beside/not-ours.jpg", Body=b"x")
    other = run(settings("s3://demo-source/some/folder", "s3://demo-results/out"))
    results = Store("s3://demo-results/out")
    for mine, theirs in zip(
        evidence(results, other.manifest, "s3://demo-source/some/folder"),
        evidence(output, outcome.manifest, Store(str(IMAGES_DIR)).uri),
        strict=True,
    ):
        assert mine.equals(theirs)
    stored = b"".join(results.read(item) for page in results.list() for item in page)
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in stored


def test_a_second_run_processes_only_new_or_changed_objects(few: Path, tmp_path: Path) -> None:
    first = stub_run(settings(few, tmp_path / "out"))
    again = stub_run(settings(few, tmp_path / "out"))
    assert (first.listed, first.unchanged) == (12, 0)
    assert (again.listed, again.unchanged, again.scored, again.errored) == (12, 12, 0, 0)

    some = sorted(few.iterdir())[3]
    some.write_bytes(sorted(few.iterdir())[5].read_bytes())
    shutil.copy(sorted(few.iterdir())[7], few / "new.img")
    third = stub_run(settings(few, tmp_path / "out"))
    assert (third.listed, third.unchanged, third.scored + third.errored) == (13, 11, 2)
    assert {u.rpartition("/")[2] for u in read_decisions(Store(str(tmp_path / "out")), third)["uri"].to_pylist()} == {
        some.name,
        "new.img",
    }
    taste = stub_run(settings(few, tmp_path / "out", full=True, limit=5))
    assert (taste.listed, taste.unchanged) == (5, 0)


def kill_once_staged(driver: subprocess.Popen[bytes], receipts: Path) -> None:
    """End a driver and all that it started, as soon as one of its shards is staged."""
    deadline = time.monotonic() + 120
    while not (receipts.is_dir() and any(receipts.glob("*.json"))):
        assert driver.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


KILLED = """
import sys
from moderation import RunSettings
from moderation.cluster import planning_processes
from moderation.cluster.session import ray_session
from stub_run import stub_run
source, policy, output = sys.argv[1:]
planning_processes.SHORT = 0  # processes beside the driver list and plan
with ray_session(None):
    stub_run(RunSettings(sources=source, policy=policy, output=output, run_id="killed", shard_size=20, batch_size=5))
"""


def test_a_killed_driver_loses_no_shard_that_it_staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning_processes, "SHORT", 0)
    images = tmp_path / "images"
    images.mkdir()
    for name in [*(f"{number:03}" for number in range(90)), "slow-1", "slow-2", "slow-3"]:
        (images / name).write_bytes(name.encode())
    folder = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(images), str(POLICY_FILE), str(folder)]
    driver = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    receipts = folder / "_staging" / "killed" / "receipts"
    kill_once_staged(driver, receipts)
    staged = {path.stem: path.read_bytes() for path in receipts.glob("*.json")}
    assert list(published_manifests(Store(str(folder)))) == []

    with pytest.raises(SettingsError, match="started with another source"):
        stub_run(settings(IMAGES_DIR, folder, run_id="killed"))
    told: list[Progress] = []
    with listening(told.append):
        manifest = stub_run(settings(images, folder, run_id="killed", shard_size=20))
    # Speed is that of this attempt.
    already = max(one.earlier for one in told)  # workers of the killed driver may have staged more before they ended
    assert sum(Receipt.model_validate_json(content).objects for content in staged.values()) <= already < 93
    assert manifest.timings.images == 93 - already
    assert manifest.timings.images_per_second <= (93 - already + 1) / manifest.timings.wall_seconds
    assert f"without {already} images of an earlier attempt" in manifest.speed
    assert max(one.done for one in told) == 93
    assert set(staged) < {Path(entry.path).stem for entry in manifest.files}
    undisturbed = stub_run(settings(images, tmp_path / "undisturbed", shard_size=7))
    assert undisturbed.timings.images == 93
    assert "earlier" not in undisturbed.speed
    source = Store(str(images)).uri
    for mine, theirs in zip(
        evidence(Store(str(folder)), manifest, source),
        evidence(Store(str(tmp_path / "undisturbed")), undisturbed, source),
        strict=True,
    ):
        assert mine.to_pylist() == theirs.to_pylist()
    with pytest.raises(SettingsError, match="already published"):
        stub_run(settings(images, folder, run_id="killed"))


@pytest.mark.slow
def test_a_killed_command_is_resumed_and_publishes_the_same_rows(
    demo: tuple[Store, Outcome], tmp_path: Path, prefect_home: Path
) -> None:
    output, outcome = demo
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "moderation.cli", "run", str(IMAGES_DIR), "-p", str(POLICY_FILE), "-o", str(folder)]
    command += ["--run-id", "killed", "--shard-size", "40", "--batch-size", "10"]
    environment = {**os.environ, "PREFECT_HOME": str(prefect_home)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    driver = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
    receipts = folder / "_staging" / "killed" / "receipts"
    kill_once_staged(driver, receipts)
    staged = {p.name: p.stat().st_mtime_ns for p in receipts.glob("*.json")}
    assert list(published_manifests(Store(str(folder)))) == []

    with pytest.raises(SettingsError, match="started with another source"):
        run(settings(IMAGES_DIR / "listings", folder, run_id="killed", shard_size=40))
    manifest = run(settings(IMAGES_DIR, folder, run_id="killed", shard_size=40)).manifest
    assert manifest.listed == outcome.manifest.listed
    assert set(staged) <= {f"{Path(e.path).stem}.json" for e in manifest.files}
    source = Store(str(IMAGES_DIR)).uri
    for mine, theirs in zip(
        evidence(Store(str(folder)), manifest, source), evidence(output, outcome.manifest, source), strict=True
    ):
        assert mine.to_pylist() == theirs.to_pylist()
    with pytest.raises(SettingsError, match="already published"):
        run(settings(IMAGES_DIR, folder, run_id="killed"))


def test_a_run_whose_checks_fail_is_quarantined_whole_and_says_why(few: Path, tmp_path: Path) -> None:
    output = Store(str(tmp_path / "out"))
    with pipeline.session(check_inputs(settings(few, tmp_path / "out"))) as running:
        scored = pipeline.score(running)
        entry = next(e for e in scored.receipts[0].files if e.table == "scores")
        key = running.paths.staged(scored.receipts[0].attempt, entry.path)
        table = pq.read_table(io.BytesIO(output.get(key)))
        spoilt = pa.array([float("nan"), *table["score"].to_pylist()[1:]], pa.float32())
        buffer = io.BytesIO()
        pq.write_table(table.set_column(table.schema.get_field_index("score"), table.schema.field("score"), spoilt), buffer)
        output.put(key, buffer.getvalue())
        checks = pipeline.check(running, scored)
        with pytest.raises(QuarantinedError, match="score_present"):
            pipeline.publish_or_quarantine(running, scored, checks)
    failed = {c.name: c for c in checks if not c.passed}
    assert failed["score_present"].examples == (table["uri"][0].as_py(),)
    assert list(published_manifests(output)) == []
    assert not (tmp_path / "out" / "decisions").exists()
    assert (tmp_path / "out" / "_quarantine" / running.paths.run_id / "runs" / f"{running.paths.run_id}.json").exists()


AT_THE_SAME_TIME = """
import sys
from moderation import RunSettings, run
source, policy, output, run_id = sys.argv[1:]
run(RunSettings(sources=source, policy=policy, output=output, run_id=run_id, full=True, shard_size=3, batch_size=2))
"""


@pytest.mark.slow
def test_two_runs_of_one_source_at_the_same_time_publish_both(few: Path, tmp_path: Path) -> None:
    arguments = [str(few), str(POLICY_FILE), str(tmp_path / "out")]
    runs = [subprocess.Popen([sys.executable, "-c", AT_THE_SAME_TIME, *arguments, name]) for name in ("one", "two")]
    assert [process.wait(180) for process in runs] == [0, 0]
    output = Store(str(tmp_path / "out"))
    manifests = {manifest.run_id: manifest for manifest in published_manifests(output)}
    assert set(manifests) == {"one", "two"}
    for manifest in manifests.values():
        assert read_decisions(output, manifest).num_rows == manifest.listed == 12
        assert set(read_decisions(output, manifest)["run_id"].to_pylist()) == {manifest.run_id}
    assert not (tmp_path / "out" / "_staging").exists()
    newest = connect(str(tmp_path / "out")).execute("select uri, scored_at from latest_decisions").fetchall()
    written = pd.read_parquet(tmp_path / "out" / "decisions").groupby("uri").scored_at.max()
    assert len(newest) == 12
    assert dict(newest) == {uri: time.to_pydatetime() for uri, time in written.items()}


@needs_data
def test_hostile_files_each_have_a_row_and_nothing_dies(tmp_path: Path) -> None:
    def peaks() -> dict[int, float]:
        """The most memory that each actor has had, in GB."""
        actors = [pid for pid, name in descendants(os.getpid()).items() if name.startswith("ray::_Actor")]
        found = {pid: Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1] for pid in actors}
        return {pid: int(text.split()[0]) / 1e6 for pid, text in found.items()}

    inputs = check_inputs(settings(DATA / "hostile", tmp_path / "out", batch_size=16))
    with pipeline.session(inputs) as running:
        loaded = peaks()
        scored = pipeline.score(running)
        worked = peaks()
    assert loaded
    assert set(worked) == set(loaded), "an actor died"
    assert all(worked[pid] - loaded[pid] < 1.5 for pid in loaded), (loaded, worked)
    assert scored.listed == sum(p.is_file() for p in (DATA / "hostile").rglob("*"))
    assert scored.listed == scored.counts.scored + scored.counts.errors
    assert not {"worker_killed", "worker_timeout", "internal"} & set(scored.counts.errored)

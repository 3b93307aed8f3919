"""Listing and planning in processes beside the driver: the same plan as in the driver, also if processes are killed."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from planned import planned_in_process
from stub_run import stub_run

from moderation import RunSettings, SourceError, Store
from moderation.cluster import planning_processes
from moderation.cluster.planning_processes import planning_helpers
from moderation.cluster.shared_objects import SharedObjects
from moderation.demo import POLICY_FILE
from moderation.planning.inputs import Inputs, check_inputs
from moderation.planning.plan import Page
from moderation.planning.planner import Tally, plan_shards
from moderation.results.paths import RunPaths
from moderation.results.read_run import read_decisions
from moderation.sources import tables

pytestmark = pytest.mark.usefixtures("ray_cluster")
PATHS = RunPaths("run", "2026-11-21", "0" * 16)
COUNT = 30_000


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even little is planned beside the driver, by two readers."""
    monkeypatch.setattr(planning_processes, "SHORT", 0)
    monkeypatch.setattr(planning_processes, "CORES_PER_READER", 1)
    monkeypatch.setattr(planning_processes, "MAX_READERS", 2)
    monkeypatch.setattr(tables, "PART", 6_000)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of 30,000 objects, one in six of which it names twice, in row groups of 6,000."""
    numbers = [number - 5_000 if number >= 25_000 else number for number in range(COUNT)]
    columns = {
        "uri": [f"s3://shop/in/{number:06}.jpg" for number in numbers],
        "etag": [f"{number}" for number in numbers],
        "size": numbers,
        "last_modified": ["2026-11-21T03:00:00.000Z"] * COUNT,
    }
    path = tmp_path_factory.mktemp("manifest") / "list.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=6_000)
    return str(path)


def inputs(output: Path, source: str) -> Inputs:
    output.mkdir()
    values = {"sources": source, "policy": str(POLICY_FILE), "output": str(output)}
    return check_inputs(RunSettings.model_validate(values))


def stored(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.rglob("plan/*.parquet")}


def plain(pages: list[Page]) -> list[tuple[object, ...]]:
    return [(page.shard and page.shard.name, tuple(page.objects), tuple(page.redecided), page.listed) for page in pages]


@pytest.mark.parametrize("killed", [0, 2])
def test_processes_plan_as_the_driver_does_also_if_readers_are_killed(tmp_path: Path, manifest: str, killed: int) -> None:
    own = inputs(tmp_path / "own", manifest)
    expected = plain(list(planned_in_process(own, PATHS, 4_000, None, Tally())))
    given, tally, found = inputs(tmp_path / "out", manifest), Tally(), list[Page]()
    with planning_helpers(given, PATHS, "0" * 16) as helpers:
        for page in plan_shards(given, PATHS, 4_000, helpers, tally):
            found.append(page)
            if len(found) <= killed:
                for reader in list(helpers._actors):  # type: ignore[attr-defined]
                    ray.kill(reader)
        assert all(isinstance(page.objects, SharedObjects) for page in found)
        assert plain(found) == expected
    assert stored(tmp_path / "out") == stored(tmp_path / "own")
    assert (tally.listed, tally.repeated, tally.planned, tally.named) == (25_000, 5_000, 25_000, 25_000)
    with planning_helpers(given, PATHS, "0" * 16) as helpers:  # an attempt that resumes
        assert plain(list(plan_shards(given, PATHS, 4_000, helpers, Tally()))) == expected


def die() -> None:
    os._exit(1)


def test_objects_whose_table_is_lost_are_taken_from_the_stored_plan(tmp_path: Path, manifest: str) -> None:
    given = inputs(tmp_path / "out", manifest)
    with planning_helpers(given, PATHS, "0" * 16) as helpers:
        page = next(iter(plan_shards(given, PATHS, 4_000, helpers, Tally())))
        objects = page.objects
        assert isinstance(objects, SharedObjects)
        before = tuple(objects)
        gone = ray.remote(die).options(num_cpus=0, max_retries=0).remote()
        lost = SharedObjects(gone, objects.plan, 10, 20)
        assert tuple(lost) == before[10:20]
        assert lost[3] == before[13]
        assert tuple(lost[2:5]) == before[12:15]


def test_what_is_wrong_with_a_source_is_said_as_the_driver_would(tmp_path: Path) -> None:
    lines = [f"s3://shop/{number}.jpg,{number},1,2026-11-21T03:00:00Z" for number in range(9_000)]
    lines[7_654] = "s3://shop/7654.jpg,7654,many,2026-11-21T03:00:00Z"
    source = tmp_path / "list.csv"
    source.write_text("\n".join(["uri,etag,size,last_modified", *lines]))
    own = inputs(tmp_path / "own", str(source))
    with pytest.raises(SourceError) as expected:
        list(planned_in_process(own, PATHS, 1_000, None, Tally()))
    given = inputs(tmp_path / "out", str(source))
    with planning_helpers(given, PATHS, "0" * 16) as helpers, pytest.raises(SourceError) as raised:
        list(plan_shards(given, PATHS, 1_000, helpers, Tally()))
    assert str(raised.value) == str(expected.value)
    assert "row 7655: 'size' is 'many'" in str(raised.value)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(90):
        (folder / f"{number:02}.jpg").write_bytes(b"x")
    return folder


def test_runs_planned_by_processes_account_for_every_object_once(tmp_path: Path, photos: Path) -> None:
    values = {"sources": str(photos), "policy": str(POLICY_FILE), "output": str(tmp_path / "out"), "shard_size": 20}
    first = stub_run(RunSettings.model_validate({**values, "include": ["[0-4]*"], "batch_size": 7}), checked=False)
    (photos / "99.jpg").write_bytes(b"x")
    second = stub_run(RunSettings.model_validate(values), checked=False)
    assert (first.listed, first.scored) == (50, 50)
    assert (second.listed, second.unchanged, second.scored) == (91, 50, 41)
    output = Store(str(tmp_path / "out"))
    uris = [uri for run in (first, second) for uri in read_decisions(output, run)["uri"].to_pylist()]
    assert sorted(uris) == sorted(f"file://{path}" for path in photos.iterdir())

"""Whole runs over gs://, az:// and folders with the names that uploaders choose to switch moderation off."""

import itertools
import json
import os
import subprocess
import sys
import uuid

import pyarrow.parquet as pq
import pytest
from cloud_emulators import azure_put
from planned import planned_in_process

from moderation import RunSettings
from moderation.planning.inputs import check_inputs
from moderation.planning.planner import Tally
from moderation.results.paths import RunPaths
from moderation.storage import file_uri

ODD = [
    "one/a//b.jpg",
    "odd/../up.jpg",
    "/lead.jpg",
    "./x.jpg",
    "tab\there.jpg",
    "new\nline.jpg",
    "%41.jpg",
    "a/b/",
    "plain.jpg",
]
RAW = [b"caf\xe9.jpg", b"caf\xef\xbf\xbde9.jpg", b"caf\\xe9.jpg", b"new\nline\xff.jpg", b"sub/\x80.jpg"]
POLICY = "moderation/demo/policy.yaml"


def moderate(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    done = subprocess.run(
        [sys.executable, "-m", "moderation.cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=900,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def sources(gcs, azurite, demo_images, tmp_path):
    """Three places full of names that nobody wants, each with a picture of its own behind it; and what they are to give."""
    pictures = itertools.cycle(path.read_bytes() for path in sorted(demo_images.rglob("*.jpg"))[:40:2])
    prefix, contents = uuid.uuid4().hex, {}
    for scheme in ("gs", "az"):
        for key, data in {**dict(zip(ODD, pictures, strict=False)), "g/": b"", "broken//x.jpg": b"no image"}.items():
            if scheme == "gs":
                gcs.put("behaviour", f"{prefix}/{key}", data)
            else:
                azure_put(azurite, f"{prefix}/{key}", data)
            contents[f"{scheme}://behaviour/{prefix}/{key}"] = data
    folder = tmp_path / "local"
    for name in RAW:
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - pathlib takes no bytes
        with open(path, "wb") as file:
            contents[file_uri(os.fsdecode(path))] = next(pictures)
            file.write(contents[file_uri(os.fsdecode(path))])
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "pipe.jpg")
    places = [f"gs://behaviour/{prefix}", f"az://behaviour/{prefix}", str(folder)]
    return places, {uri: data for uri, data in contents.items() if not uri.endswith("/g/")}


@pytest.mark.parametrize("limit", [None, 7])
def test_every_object_is_planned_once_and_read_as_it_is(sources, tmp_path, limit):
    places, contents = sources
    (tmp_path / "out").mkdir()
    given = check_inputs(RunSettings(sources=places, policy=POLICY, output=str(tmp_path / "out")))
    paths, planned = RunPaths("run", "2026-11-21", "0" * 16), []
    for page in itertools.islice(planned_in_process(given, paths, 3, None, Tally()), limit):  # an attempt, which may die
        planned += page.shard.objects
    tally = Tally()
    resumed = [item for page in planned_in_process(given, paths, 3, None, tally) for item in page.shard.objects]
    assert resumed[: len(planned)] == planned
    assert sorted(item.uri for item in resumed) == sorted(contents)
    assert tally.listed == tally.named == len(contents)
    assert {item.uri: given.reader.read(item) for item in resumed} == contents


@pytest.mark.slow
def test_odd_keys_cost_a_row_at_most_whatever_the_store(sources, tmp_path):
    places, contents = sources
    output = tmp_path / "results"
    code, told = moderate("run", *places, "--policy", POLICY, "--output", str(output))
    assert code == 0, told
    [manifest] = [json.loads(path.read_text()) for path in (output / "runs").glob("*.json")]
    rows = pq.read_table(output / "decisions").to_pylist()
    assert sorted(row["uri"] for row in rows) == sorted(contents)
    assert {row["uri"] for row in rows if row["status"] != "scored"} == {f"{place}/broken//x.jpg" for place in places[:2]}
    assert manifest["listed"] == len(rows) == manifest["counts"]["scored"] + 2
    assert (manifest["linked_folders"], manifest["special_files"]) == (1, 1)
    assert "linked folders, skipped" in told
    assert list((output / "reports").rglob("report.html"))
    escaped = next(uri for uri in contents if uri.endswith("caf\ufffde9.jpg"))
    raw = os.fsdecode(os.fsencode(places[2]) + b"/sub/\x80.jpg")
    code, told = moderate("policy", "explain", POLICY, escaped, raw, f"{places[0]}/one/a//b.jpg")
    assert code == 0, told
    assert "not_found" not in told

"""Whole runs over gs://, az:// and folders with the names that uploaders choose to switch moderation off."""

import itertools
import json
import os
import subprocess
import sys
import uuid

import pyarrow.parquet as pq
import pytest
from test_cloud_storage import azure_put

from moderation.storage import Store

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


@pytest.mark.slow
def test_odd_keys_cost_a_row_at_most_whatever_the_store(gcs, azurite, demo_images, tmp_path):
    pictures = itertools.cycle(path.read_bytes() for path in sorted(demo_images.rglob("*.jpg"))[:40:2])
    prefix = uuid.uuid4().hex
    for key, data in {**dict(zip(ODD, pictures, strict=False)), "g/": b"", "broken//x.jpg": b"no image"}.items():
        gcs.put("behaviour", f"{prefix}/{key}", data)
        azure_put(azurite, f"{prefix}/{key}", data)
    folder = tmp_path / "local"
    for name in RAW:
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - pathlib takes no bytes
        with open(path, "wb") as file:
            file.write(next(pictures))
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "pipe.jpg")
    sources = [f"gs://behaviour/{prefix}", f"az://behaviour/{prefix}", str(folder)]
    output = tmp_path / "results"
    code, told = moderate("run", *sources, "--policy", POLICY, "--output", str(output))
    assert code == 0, told
    [manifest] = [json.loads(path.read_text()) for path in (output / "runs").glob("*.json")]
    expected = {f"{source}/{key}" for source in sources[:2] for key in [*ODD, "broken//x.jpg"]}
    local = [item.uri for page in Store(str(folder)).list() for item in page]
    assert len(local) == len(RAW)
    rows = pq.read_table(output / "decisions").to_pylist()
    assert sorted(row["uri"] for row in rows) == sorted([*expected, *local])
    assert {row["uri"] for row in rows if row["status"] != "scored"} == {f"{source}/broken//x.jpg" for source in sources[:2]}
    assert manifest["listed"] == len(rows) == manifest["counts"]["scored"] + 2
    assert (manifest["linked_folders"], manifest["special_files"]) == (1, 1)
    assert "linked folders, left out" in told
    assert list((output / "reports").rglob("report.html"))

    escaped = next(uri for uri in local if uri.endswith("caf\ufffde9.jpg"))
    code, told = moderate(
        "policy", "explain", POLICY, escaped, os.fsdecode(os.fsencode(folder) + b"/sub/\x80.jpg"), f"{sources[0]}/one/a//b.jpg"
    )
    assert code == 0, told
    assert "not_found" not in told

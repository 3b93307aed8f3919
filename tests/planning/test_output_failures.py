"""Outputs that fail while a run writes: nothing is published, nothing is lost, and the same run goes on once it is mended."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from faulty_proxy import Answer, FaultyProxy
from needs import needs_mount, require
from stub_run import stub_run, stub_session

from moderation import OutputError, RunError, RunSettings, Store, pipeline
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import find_manifest, published_manifests
from moderation.results.read_run import read_decisions
from moderation.storage import store as stores

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    for path in sorted((IMAGES_DIR / "uploads").iterdir())[:6]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for next to nothing."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    require(needs_mount())
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def settings(images: Path, output: object, **more: object) -> RunSettings:
    values = {"sources": str(images), "policy": str(POLICY_FILE), "output": str(output), "run_id": "r", **more}
    return RunSettings.model_validate(values)


def test_a_full_disk_and_an_existing_manifest_are_reported_in_one_line(images: Path, tmp_path: Path, tiny_disk: Path) -> None:
    with pytest.raises(OutputError, match=r"No space left.*nothing was published.*--run-id r") as caught:
        stub_run(settings(images, tiny_disk / "out", shard_size=2))
    assert "\n" not in str(caught.value)
    assert not (tiny_disk / "out" / "runs").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", tiny_disk], check=True)  # somebody makes room

    output = Store(str(tiny_disk / "out"))
    with stub_session(settings(images, tiny_disk / "out", shard_size=2)) as running:
        scored = pipeline.score(running)
        checks = pipeline.check(running, scored)
        output.put(running.paths.manifest, b"somebody else's")
        with pytest.raises(RunError, match="meanwhile published by another process"):
            pipeline.publish_or_quarantine(running, scored, checks)
        assert output.get(running.paths.manifest) == b"somebody else's"
        output.delete(running.paths.manifest)
        manifest = pipeline.publish_or_quarantine(running, scored, checks)
    assert manifest.listed == manifest.scored == 6
    assert read_decisions(output, manifest).num_rows == 6
    assert [path for path in (tiny_disk / "out" / "_staging").rglob("*") if path.is_file()] == []


def test_a_scratch_folder_without_room_says_where_to_make_some(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    from moderation.results.shard_files import _scratch

    monkeypatch.setattr(tempfile, "tempdir", str(tiny_disk))
    with pytest.raises(OutputError, match=r"No space left on device.*TMPDIR"), _scratch() as folder:
        (folder / "x").write_bytes(bytes(1 << 20))


def test_a_bucket_that_starts_to_refuse_writes_stops_the_run(
    images: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3.client("s3").create_bucket(Bucket="refusing")
    copies = 0

    def refuse(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer | None:
        nonlocal copies
        copied = {name.lower() for name in headers} & {"x-amz-copy-source"}
        copies += bool(copied)
        if copied and copies > 4:
            return Answer(403, b"<Error><Code>AccessDenied</Code><Message>no more</Message></Error>")
        return None

    with FaultyProxy(s3_endpoint, seed=1) as proxy:
        proxy.rule = refuse
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        stores._bucket.cache_clear()
        with pytest.raises(OutputError, match=r"cannot publish.*nothing was published.*--run-id r"):
            stub_run(settings(images, "s3://refusing/out", shard_size=2))
        output = Store("s3://refusing/out")
        assert list(published_manifests(output)) == []
        proxy.rule = None
        manifest = stub_run(settings(images, "s3://refusing/out", shard_size=2))
        assert manifest.scored == 6
        assert find_manifest(output, "r") == manifest
        assert not [item for page in output.list("_staging/") for item in page]
    stores._bucket.cache_clear()

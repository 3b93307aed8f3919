"""A policy that changed: embedded images are re-decided from storage, and no image is read."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from planned import planned_in_process
from stub_run import stub_run

from moderation import RunError, RunSettings, SettingsError, Store, pipeline
from moderation.planning.inputs import check_inputs
from moderation.planning.plan import Page
from moderation.planning.planner import Tally
from moderation.results.archive import open_archive
from moderation.results.ledger import read_ledger
from moderation.results.manifest import Manifest, find_manifest
from moderation.results.paths import RunPaths
from moderation.results.read_run import read_decisions, read_scores
from moderation.results.retention import prune
from moderation.results.runs import find_run

OLD = """
policy: shop
model: {name: none}
rules:
  - {id: one, prompts: [a thing], score: similarity, review: 0.3}
  - {id: two, prompts: [another], score: similarity, review: 0.3, block: 0.6}
"""
NEW = OLD.replace("review: 0.3", "review: 0.1")
MODEL = "0" * 16


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(60):
        (tmp_path / f"images/{number:02d}.jpg").write_text(f"image {number}")
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text(NEW)
    return tmp_path


def settings(work: Path, policy: str, **more: object) -> RunSettings:
    quality = work / "quality.yaml"
    quality.write_text("checks:\n  constant_scores: {severity: warn}\n  flag_rate: {severity: warn}\n")
    values = {
        "sources": str(work / "images"),
        "policy": str(work / policy),
        "output": str(work / "out"),
        "quality": str(quality),
    }
    return RunSettings.model_validate({**values, "shard_size": 10, "batch_size": 5, **more})


def decided(output: Path, manifest: Manifest) -> pa.Table:
    return read_decisions(Store(str(output)), manifest).sort_by("uri").drop(["run_id", "scored_at"])


def scores(output: Path, manifest: Manifest) -> pa.Table:
    return read_scores(Store(str(output)), manifest).sort_by([("uri", "ascending"), ("rule", "ascending")]).drop(["run_id"])


def change(work: Path) -> None:
    """Three objects get new content, and seven more come."""
    for number in (3, 33, 59):
        (work / f"images/{number:02d}.jpg").write_text(f"another image {number}")
    for number in range(60, 67):
        (work / f"images/{number:02d}.jpg").write_text(f"image {number}")


@pytest.mark.usefixtures("ray_cluster")
def test_only_images_without_stored_embeddings_are_scored(work: Path) -> None:
    first = stub_run(settings(work, "old.yaml"), checked=False)
    assert (first.scored, first.redecided) == (60, 0)
    change(work)
    second = stub_run(settings(work, "new.yaml"))
    assert (second.listed, second.unchanged, second.scored, second.redecided) == (67, 0, 67, 57)
    full = stub_run(settings(work, "new.yaml", full=True, output=str(work / "full")), checked=False)
    assert full.redecided == 0
    assert decided(work / "out", second).equals(decided(work / "full", full))
    assert scores(work / "out", second).equals(scores(work / "full", full))
    assert second.counts == full.counts
    assert not decided(work / "out", second)["flags"].equals(decided(work / "out", first)["flags"])
    third = stub_run(settings(work, "new.yaml"), checked=False)
    assert (third.listed, third.unchanged, third.scored) == (67, 67, 0)
    back = stub_run(settings(work, "old.yaml"), checked=False)
    assert (back.listed, back.unchanged, back.redecided) == (67, 57, 10)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("keep", [True, False])
def test_a_pruned_run_serves_as_long_as_its_embeddings_are_kept(work: Path, keep: bool) -> None:
    first = stub_run(settings(work, "old.yaml"), checked=False)
    output = Store(str(work / "out"))
    prune(output, find_run(output, first.run_id), keep_embeddings=keep)
    second = stub_run(settings(work, "new.yaml"), checked=False)
    assert (second.scored, second.redecided) == (60, 60 if keep else 0)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("damage", ["cut", "gone", "of another file"])
def test_embeddings_that_cannot_be_read_are_scored_again(work: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    stub_run(settings(work, "old.yaml"), checked=False)
    files = sorted((work / "out/embeddings").rglob("*.parquet"))
    if damage == "cut":
        files[0].write_bytes(files[0].read_bytes()[:-100])
    elif damage == "gone":
        files[0].unlink()
    else:
        shutil.copy(files[1], files[0])
    second = stub_run(settings(work, "new.yaml"), checked=False)
    assert (second.listed, second.scored, second.redecided) == (60, 60, 50)
    assert "10 images are scored instead of being re-decided from stored embeddings" in caplog.text


def stopped(work: Path, pages: int) -> None:
    """An attempt that dies after it planned some pages."""
    planned = planning(work, Tally())
    for _ in range(pages):
        next(planned, None)


def planning(work: Path, tally: Tally):
    inputs = check_inputs(settings(work, "new.yaml"))
    ledger = read_ledger(inputs.output, inputs.policy.hash, MODEL, retry_errors=False)
    return planned_in_process(inputs, RunPaths("broken-off", "2026-11-21", MODEL), 10, ledger, tally)


@pytest.mark.usefixtures("ray_cluster")
def test_wherever_an_attempt_stops_every_object_is_planned_once(work: Path) -> None:
    stub_run(settings(work, "old.yaml"), checked=False)
    change(work)
    for pages in range(12):
        stopped(work, pages)
        tally = Tally()
        found: list[Page] = list(planning(work, tally))
        uris = Counter(item.uri for page in found for item in page.objects)
        assert len(uris) == 67
        assert set(uris.values()) == {1}
        assert (tally.listed, tally.planned, tally.unchanged) == (67, 67, 0)
        redecided = {item.uri for page in found if page.stored for item in page.objects}
        assert len(redecided) == 57
        shutil.rmtree(work / "out/_staging/broken-off")


@pytest.mark.usefixtures("ray_cluster")
def test_images_to_re_decide_are_scored_if_their_run_was_pruned_meanwhile(work: Path) -> None:
    first = stub_run(settings(work, "old.yaml"), checked=False)
    stopped(work, 4)  # the listing has ended
    output = Store(str(work / "out"))
    prune(output, find_run(output, first.run_id), keep_embeddings=False)
    found: list[Page] = list(planning(work, Tally()))
    assert sorted(item.uri for page in found for item in page.objects) == sorted(
        f"file://{p}" for p in (work / "images").iterdir()
    )


@pytest.mark.usefixtures("ray_cluster")
def test_a_whole_history_is_re_decided_without_sources(work: Path) -> None:
    stub_run(settings(work, "old.yaml", include=["0*"]), checked=False)
    stub_run(settings(work, "old.yaml"), checked=False)
    change(work)
    stub_run(settings(work, "old.yaml"), checked=False)
    full = stub_run(settings(work, "new.yaml", full=True, output=str(work / "full")), checked=False)
    shutil.rmtree(work / "images")
    some = pipeline.run(
        settings(work, "new.yaml", sources=(), from_embeddings=True, limit=20, include=["*/[0-2]?.jpg"])
    ).manifest
    assert (some.listed, some.scored, some.redecided) == (20, 20, 20)
    rest = pipeline.run(settings(work, "new.yaml", sources=(), from_embeddings=True)).manifest
    assert (rest.listed, rest.unchanged, rest.redecided) == (67, 20, 47)
    both = pa.concat_tables([decided(work / "out", some), decided(work / "out", rest)]).sort_by("uri")
    assert both.equals(decided(work / "full", full))
    again = pipeline.run(settings(work, "new.yaml", sources=(), from_embeddings=True, full=True)).manifest
    assert (again.unchanged, again.redecided) == (0, 67)


@pytest.mark.usefixtures("ray_cluster")
def test_a_history_says_how_its_pictures_were_resized(work: Path) -> None:
    exact = stub_run(settings(work, "old.yaml", resize="exact", limit=20), checked=False)
    output = Store(str(work / "out"))
    history = settings(work, "new.yaml", sources=(), from_embeddings=True)
    redecided = pipeline.run(history).manifest
    assert (redecided.settings["resize"], redecided.settings["precision"]) == ("exact", "fp32")
    assert open_archive(output).used.resize == "exact"
    before = {"settings": {name: value for name, value in exact.settings.items() if name != "resize"}}
    for run_id, fingerprint, changed in (("earlier", MODEL, before), ("fast", "f" * 16, {"settings": history.model_dump()})):
        other = exact.model_copy(update={"run_id": run_id, "model_fingerprint": fingerprint, **changed})
        output.put(f"runs/{run_id}.json", other.model_dump_json().encode())
    assert open_archive(output, "none", resize="exact").fingerprint == MODEL
    assert open_archive(output, "none", resize="fast").fingerprint == "f" * 16
    assert open_archive(output, run_ids=["earlier"]).used.resize == "exact", "what runs before this setting did"
    with pytest.raises(SettingsError, match="2 different models"):
        open_archive(output, "none")


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_over_an_unreadable_history_can_be_resumed(work: Path) -> None:
    stub_run(settings(work, "old.yaml"), checked=False)
    path = sorted((work / "out/embeddings").rglob("*.parquet"))[2]
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    again = settings(work, "new.yaml", sources=(), from_embeddings=True, run_id="anew")
    with pytest.raises(RunError, match=r"is damaged: .*; nothing was published: fix that, then resume with --run-id anew"):
        pipeline.run(again)
    path.write_bytes(whole)
    assert pipeline.run(again).manifest.redecided == 60


def test_re_deciding_a_history_needs_a_published_run(work: Path) -> None:
    (work / "out").mkdir()
    with pytest.raises(SettingsError, match="there is nothing to re-decide: no run is published"):
        pipeline.run(settings(work, "new.yaml", sources=(), from_embeddings=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources": ()}, "nothing to moderate: give a source"),
        ({"from_embeddings": True}, "re-decides what the results hold: leave out the sources"),
    ],
)
def test_a_run_processes_either_sources_or_embeddings(work: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(work, "new.yaml", **values)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.slow
def test_re_decided_and_scored_images_have_equal_rows_with_the_real_model(tmp_path: Path, demo_images: Path) -> None:
    from moderation.demo import POLICY_FILE

    for number, image in enumerate(sorted(path for path in demo_images.rglob("*") if path.is_file())):
        if number % 8 == 0 or image.suffix == ".gif":
            target = tmp_path / "images" / image.relative_to(demo_images)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
    new = tmp_path / "new.yaml"
    new.write_text(
        POLICY_FILE.read_text().replace("review: 0.4", "review: 0.2").replace("prompts: [", "prompts: [a sword, ", 1)
    )
    first = pipeline.run(_demo(tmp_path, POLICY_FILE, "out")).manifest
    full = pipeline.run(_demo(tmp_path, new, "full")).manifest
    for image in (tmp_path / "images").rglob("*"):
        if image.is_file():  # other bytes at the same version: who reads them finds no image
            before = image.stat()
            image.write_bytes(b"x" * before.st_size)
            os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    redecided = pipeline.run(_demo(tmp_path, new, "out")).manifest
    assert (redecided.listed, redecided.scored, redecided.redecided) == (first.listed, first.scored, first.scored)
    is_scored = pa.compute.field("status") == "scored"
    assert decided(tmp_path / "out", redecided).filter(is_scored).equals(decided(tmp_path / "full", full).filter(is_scored))
    assert scores(tmp_path / "out", redecided).equals(scores(tmp_path / "full", full))
    assert find_manifest(Store(str(tmp_path / "out")), redecided.run_id) == redecided
    assert any(frame > 0 for frame in scores(tmp_path / "out", redecided)["frame"].to_pylist())


def _demo(work: Path, policy: Path, output: str) -> RunSettings:
    return RunSettings(
        sources=(str(work / "images"),), policy=str(policy), output=str(work / output), device="cpu", batch_size=32
    )

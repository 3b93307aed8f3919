"""From sources to shards: what is taken up, once each, and going on where an attempt broke off."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planned import planned_in_process

from moderation import RunSettings, SettingsError, SourceError, Store
from moderation.demo import POLICY_FILE
from moderation.planning.inputs import Inputs, check_inputs, claim_run
from moderation.planning.plan import Page
from moderation.planning.planner import Tally
from moderation.records import ObjectRef, Shard
from moderation.results.ledger import Ledger, version_hashes
from moderation.results.paths import RunPaths
from moderation.sources import manifest_file as manifests
from moderation.sources import skipped_in
from moderation.storage import Skipped

if TYPE_CHECKING:
    from gcs_server import GcsServer

PATHS = RunPaths("run", "2026-11-21", "0" * 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.jpg", "a/2.png", "a/3.jpg", "b/1.jpg", "b/2.jpg", "c.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "images"


def inputs(tmp_path: Path, *sources: Path | str, **more: object) -> Inputs:
    names = [str(source) for source in sources]
    (tmp_path / "out").mkdir(exist_ok=True)
    values = {"sources": names, "policy": str(POLICY_FILE), "output": str(tmp_path / "out"), **more}
    return check_inputs(RunSettings.model_validate(values))


def plan(given: Inputs, size: int = 2, ledger: Ledger | None = None) -> tuple[list[Shard], Tally]:
    tally = Tally()
    return [page.shard for page in planned_in_process(given, PATHS, size, ledger, tally) if page.shard is not None], tally


def names(shards: list[Shard], folder: Path) -> list[str]:
    return [item.uri.removeprefix(f"file://{folder}/") for shard in shards for item in shard.objects]


def begin(given: Inputs, shards: int, size: int = 2, ledger: Ledger | None = None) -> None:
    """An attempt that dies after it planned some shards."""
    planned: Iterator[Page] = planned_in_process(given, PATHS, size, ledger, Tally())
    for _ in range(shards):
        next(planned)


def manifest(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps({"uri": row} if isinstance(row, str) else row) + "\n" for row in rows))
    return path


def test_several_folders_are_listed_one_after_the_other(tmp_path: Path, folder: Path) -> None:
    shards, tally = plan(inputs(tmp_path, folder / "b", folder / "a"))
    assert names(shards, folder) == ["b/1.jpg", "b/2.jpg", "a/1.jpg", "a/2.png", "a/3.jpg"]
    assert (tally.listed, tally.unchanged, tally.repeated, tally.planned, tally.complete) == (5, 0, 0, 5, True)


@pytest.mark.parametrize("shards", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["folder", "folders", "manifest", "manifests"])
def test_an_attempt_resumes_after_the_last_planned_shard(tmp_path: Path, folder: Path, kind: str, shards: int) -> None:
    first = manifest(tmp_path / "1.jsonl", "images/c.jpg", "images/c.jpg", "images/a/2.png", "images/a/1.jpg", "images/c.jpg")
    second = manifest(tmp_path / "2.jsonl", "images/b/2.jpg", "images/a/1.jpg", "images/b/1.jpg", "images/gone.jpg")
    sources = {"folder": [folder], "folders": [folder / "b", folder / "a"], "manifest": [first], "manifests": [first, second]}
    given = inputs(tmp_path, *sources[kind], exclude=["*/3.jpg"])
    begin(given, shards, size=1)
    resumed, tally = plan(given, size=1)
    other = tmp_path / "other"
    other.mkdir()
    undisturbed, expected = plan(inputs(tmp_path, *sources[kind], exclude=["*/3.jpg"], output=str(other)), size=1)
    assert resumed == undisturbed
    assert (tally.listed, tally.repeated, tally.planned) == (expected.listed, expected.repeated, expected.planned)
    assert tally.named == tally.listed
    assert tally.repeated == {"manifest": 2, "manifests": 3}.get(kind, 0)
    assert [item.uri for item in given.output.list().__next__()]  # the plan is stored
    again, _ = plan(given, size=1)
    assert again == undisturbed


def test_objects_of_a_manifest_are_looked_up_and_those_that_are_gone_keep_their_place(tmp_path: Path, folder: Path) -> None:
    listed = manifest(tmp_path / "list.jsonl", "images/c.jpg", str(folder / "gone.jpg"), "images/a/1.jpg")
    (shard,), tally = plan(inputs(tmp_path, listed), size=5)
    store = Store(str(folder))
    assert shard.objects[0] == store.head("c.jpg")
    assert shard.objects[2] == store.head("a/1.jpg")
    assert (shard.objects[1].uri, shard.objects[1].etag) == (f"file://{folder}/gone.jpg", "")
    assert tally.listed == 3


def test_decided_objects_are_not_processed_again(tmp_path: Path, folder: Path) -> None:
    ledger = Ledger()
    store = Store(str(folder))
    done = [store.head("a/1.jpg"), store.head("b/1.jpg"), store.head("c.jpg")._replace(etag="another version")]
    ledger.add(version_hashes(done))
    for sources in (
        [folder],
        [manifest(tmp_path / "l.jsonl", *(f"images/{n}" for n in ("a/1.jpg", "b/1.jpg", "c.jpg", "a/2.png")))],
    ):
        other = tmp_path / f"results of {sources[0].name}"
        other.mkdir()
        shards, tally = plan(inputs(tmp_path, *sources, output=str(other)), ledger=ledger)
        assert not {"a/1.jpg", "b/1.jpg"} & set(names(shards, folder))
        assert "c.jpg" in names(shards, folder)
        assert (tally.unchanged, tally.listed) == (2, tally.planned + 2)


@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_rows_of_a_manifest_that_are_lost_on_the_way_are_missing_from_the_sum(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:
    uris = [str(folder / name) for name in ("c.jpg", "a/1.jpg", "c.jpg", "a/2.png", "b/1.jpg")]
    listed = tmp_path / f"list.{extension}"
    if extension == "parquet":
        pq.write_table(pa.table({"uri": uris}), listed)
    else:
        manifest(listed, *uris)
    given = inputs(tmp_path, listed, exclude=["*.png"])
    _, tally = plan(given)
    assert (tally.listed, tally.named, tally.repeated) == (3, 3, 1)

    whole = manifests.object_refs
    monkeypatch.setattr(manifests, "object_refs", lambda *arguments: whole(*arguments)[:-1])
    _, tally = plan(inputs(tmp_path, listed, exclude=["*.png"], output=str(tmp_path)))
    assert (tally.listed, tally.named) == (2, 3)


def test_a_limit_holds_across_sources_and_attempts(tmp_path: Path, folder: Path) -> None:
    given = inputs(tmp_path, folder / "b", folder / "a", limit=3)
    begin(given, 1)
    shards, tally = plan(given)
    assert names(shards, folder) == ["b/1.jpg", "b/2.jpg", "a/1.jpg"]
    assert (tally.listed, tally.planned) == (3, 3)


def test_the_first_shard_comes_before_the_listing_has_ended(tmp_path: Path, folder: Path) -> None:
    tally = Tally()
    planned = planned_in_process(inputs(tmp_path, folder), PATHS, 1, None, tally)
    assert len(next(planned).objects) == 1
    assert not tally.complete
    assert tally.planned == 1


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (["images", "images/a"], "is inside"),
        (["images/a", "images/a"], "is inside"),
        (["images", "list.jsonl"], "one kind"),
        (["images/c.jpg"], "is a file"),
        (["nothing"], "cannot list"),
        (["nothing.csv"], "nothing.csv"),
    ],
)
def test_unusable_sources_are_reported(tmp_path: Path, folder: Path, sources: list[str], words: str) -> None:
    manifest(tmp_path / "list.jsonl", "images/c.jpg")
    with pytest.raises(SourceError, match=words):
        inputs(tmp_path, *(tmp_path / source for source in sources))


def test_an_attempt_with_other_sources_or_another_selection_is_refused(tmp_path: Path, folder: Path) -> None:
    listed = manifest(tmp_path / "list.jsonl", "images/c.jpg")
    claim_run(inputs(tmp_path, listed, run_id="r"), "0" * 16)
    claim_run(inputs(tmp_path, listed, run_id="r"), "0" * 16)
    with pytest.raises(SettingsError, match="another selection"):
        claim_run(inputs(tmp_path, listed, run_id="r", include=["*.png"]), "0" * 16)
    with pytest.raises(SettingsError, match="another model"):
        claim_run(inputs(tmp_path, listed, run_id="r"), "1" * 16)
    manifest(tmp_path / "list.jsonl", "images/a/1.jpg")
    with pytest.raises(SettingsError, match="another source"):
        claim_run(inputs(tmp_path, listed, run_id="r"), "0" * 16)


def test_a_manifest_in_a_bucket_cannot_name_files_of_this_machine(tmp_path: Path, folder: Path) -> None:
    store = Store("memory://hostile")
    store.put("list.jsonl", json.dumps({"uri": f"file://{folder}/c.jpg"}).encode())
    given = inputs(tmp_path, "memory://hostile/list.jsonl")
    (shard,), _ = plan(given)
    item: ObjectRef = shard.objects[0]
    assert item.etag == ""
    with pytest.raises(Exception, match="cannot name files of this machine"):
        given.reader.look_up(item.uri)
    with pytest.raises(Exception, match="cannot name files of this machine"):
        given.reader.get(item.uri, "")


def test_manifests_name_files_that_are_not_utf8_by_their_uri(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in (b"caf\xe9.jpg", b"caf\xef\xbf\xbde9.jpg", b"caf\\xe9.jpg"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)
    listed, _ = plan(inputs(tmp_path, folder))
    uris = [item.uri for shard in listed for item in shard.objects]
    assert len(set(uris)) == 3
    for rows in (uris, [uri.removeprefix("file://") for uri in uris], names(listed, tmp_path)):
        given = inputs(tmp_path, manifest(tmp_path / "list.jsonl", *rows))
        shards, tally = plan(given)
        assert tally.listed == tally.named == 3
        found = [item for shard in shards for item in shard.objects]
        assert [item.uri for item in found] == uris
        assert all(item.etag for item in found)
        raw = {os.fsencode(Store.locate(item.uri)[0]._backend._path(item.uri.rpartition("/")[2]).name) for item in found}  # type: ignore[attr-defined]
        assert {given.reader.read(item) for item in found} == raw


def test_empty_folder_objects_that_a_manifest_names_are_left_out(tmp_path: Path, gcs: "GcsServer") -> None:
    place = f"gs://behaviour/{uuid.uuid4().hex}"
    for key, data in {"g/": b"", "h/": b"", "full/": b"x", "empty.jpg": b"", "a.jpg": b"x"}.items():
        gcs.put("behaviour", f"{place.removeprefix('gs://behaviour/')}/{key}", data)
    known = {"uri": f"{place}/h/", "etag": "1", "size": 0, "last_modified": "2026-11-21T03:00:00Z"}
    rows = [f"{place}/{key}" for key in ("a.jpg", "g/", "gone/", "full/", "empty.jpg")]
    shards, tally = plan(inputs(tmp_path, manifest(tmp_path / "list.jsonl", *rows, known)), size=10)
    assert [item.uri for shard in shards for item in shard.objects] == [
        f"{place}/{key}" for key in ("a.jpg", "gone/", "full/", "empty.jpg")
    ]
    assert tally.listed == tally.named == 4


def test_a_source_or_output_whose_name_is_not_utf8_is_a_uri_in_the_settings(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(folder).mkdir()
    (Path(folder) / "a.jpg").write_bytes(b"x")
    Path(f"{folder}-out").mkdir()
    given = inputs(tmp_path, folder, output=f"{folder}-out")
    given.settings.model_dump_json().encode()
    assert given.source_uris == (f"file://{tmp_path}/\ufffdff",)
    shards, _ = plan(given)
    assert [item.uri for shard in shards for item in shard.objects] == [f"file://{tmp_path}/\ufffdff/a.jpg"]
    assert given.output.uri == f"file://{tmp_path}/\ufffdff-out"


def test_linked_folders_of_all_sources_are_counted(tmp_path: Path, folder: Path) -> None:
    for place in ("a", "b"):
        (folder / place / "linked").symlink_to(folder, target_is_directory=True)
    given = inputs(tmp_path, folder / "a", folder / "b")
    assert skipped_in(given.sources) == Skipped(linked_folders=2)
    assert skipped_in(inputs(tmp_path, manifest(tmp_path / "list.jsonl", "images/c.jpg")).sources) == Skipped()

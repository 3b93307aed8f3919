"""`moderate runs replay`: what runs stored follows from their embeddings, and whatever does not is found."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moderation import OutputError, RunSettings, SettingsError, Store, run
from moderation.commands.replay import replay
from moderation.common.safe_text import visible
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results import schemas
from moderation.results.manifest import Manifest, find_manifest
from moderation.results.schemas import Table
from moderation.results.stored_prompts import read_prompts
from moderation.studies.replay.replay_result import Replay
from moderation.studies.replay.replaying import replay_all, replay_run
from moderation.studies.replay.row_comparison import differing
from moderation.studies.replay.shard_reading import RunFiles, load_shards, shards_of

Edit = Callable[[pa.Table], pa.Table]

INCLUDED = """
include: base/demo.yaml
overrides:
  weapons: {review: 0.31}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """Results of two real runs over some of the demo's images, animated and broken ones among them, in several shards."""
    folder = tmp_path_factory.mktemp("replay")
    images = folder / "images"
    images.mkdir()
    files = sorted(path for path in IMAGES_DIR.rglob("*") if path.is_file())
    chosen = [path for path in files if path.suffix not in {".png", ".jpg"}]
    for path in [*chosen[:40], *files[::12]]:
        shutil.copy(path, images / f"{path.parent.name}-{path.name}")
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more than this")
    (images / "empty.png").write_bytes(b"")
    first = next(rule for rule in POLICY_FILE.read_text().splitlines() if rule.startswith("  - id: ")).split()[-1]
    policies = folder / "policies"
    (policies / "base").mkdir(parents=True)
    (policies / "base" / "demo.yaml").write_text(POLICY_FILE.read_text())
    (policies / "mine.yaml").write_text(INCLUDED.replace("weapons", first))
    output = str(folder / "out")
    for number, policy in enumerate((POLICY_FILE, policies / "mine.yaml"), 1):
        run(RunSettings(sources=str(images), policy=str(policy), output=output, run_id=f"run-{number}", shard_size=25))
    shutil.rmtree(policies)  # the manifest is enough
    shutil.rmtree(images)
    return folder / "out"


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Store:
    """A copy that a test may spoil."""
    shutil.copytree(made, tmp_path / "out")
    return Store(str(tmp_path / "out"))


def manifest_of(output: Store, run_id: str = "run-1") -> Manifest:
    found = find_manifest(output, run_id)
    assert found is not None
    return found


def tamper(output: Store, table: Table, edit: Edit, status: str = "scored") -> None:
    """Change a file of a run, and its size in the manifest with it: only the values betray it. `status`: of a row it holds."""
    manifest = manifest_of(output)
    files = ((one, pq.read_table(io.BytesIO(output.get(one.path)))) for one in manifest.files if one.table == table)
    entry, rows = next((one, rows) for one, rows in files if table != "decisions" or status in rows["status"].to_pylist())
    rows = edit(rows)
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    output.put(entry.path, buffer.getvalue())
    entries = tuple(
        one if one != entry else one.model_copy(update={"bytes": len(buffer.getvalue()), "rows": rows.num_rows})
        for one in manifest.files
    )
    rewrite(output, manifest, files=entries)


def rewrite(output: Store, manifest: Manifest, **changes: Any) -> None:
    output.put(f"runs/{manifest.run_id}.json", manifest.model_copy(update=changes).to_json())


def with_value(column: str, row: int, value: object) -> Edit:
    def edit(rows: pa.Table) -> pa.Table:
        values = rows[column].to_pylist()
        values[row] = value
        at = rows.schema.get_field_index(column)
        return rows.set_column(at, rows.schema.field(column), pa.array(values, rows.schema.field(column).type))

    return edit


def row_where(rows: pa.Table, **wanted: object) -> int:
    return next(i for i, row in enumerate(rows.select(list(wanted)).to_pylist()) if row == wanted)


def problem(found: Replay) -> str:
    """The only problem of a replay without differences."""
    assert found.differences == 0
    assert len(found.problems) == 1, found.problems
    assert "\n" not in found.problems[0]
    return found.problems[0]


def test_every_run_follows_from_what_it_stored_bit_for_bit(output: Store) -> None:
    found = list(replay_all(output))
    assert [one.run_id for one in found] == ["run-1", "run-2"]
    for one in found:
        manifest = manifest_of(output, one.run_id)
        assert one.problems == ()
        assert one.shown == ()
        assert one.identical
        assert one.differences == 0
        assert one.prompts == "stored"
        assert one.state == "published"
        assert (one.scored, one.errors) == (manifest.scored, manifest.errored)
        assert one.shards == one.shards_replayed >= 2
        assert one.errors >= 2
        assert sum(entry.rows for entry in manifest.files if entry.table == "embeddings") > manifest.scored, "no animation"
    assert manifest_of(output, "run-2").policy_includes
    assert manifest_of(output, "run-2").redecided == manifest_of(output, "run-2").scored


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("decisions", "action", "block"),
        ("decisions", "flagged", True),
        ("decisions", "flags", ["weapons", "x"]),
        ("decisions", "shadow_flags", ["x"]),
        ("decisions", "top_rule", None),
        ("decisions", "top_category", "other"),
        ("decisions", "top_score", 0.123),
        ("decisions", "top_threshold", 0.123),
        ("decisions", "near_threshold", None),
        ("decisions", "frame", 7),
        ("decisions", "retryable", True),
        ("decisions", "error_code", "corrupt"),
        ("decisions", "policy", "other"),
        ("decisions", "policy_version", "other"),
        ("decisions", "policy_hash", "other"),
        ("decisions", "model", "other"),
        ("decisions", "model_fingerprint", "other"),
        ("decisions", "run_id", "other"),
        ("scores", "score", float("nan")),
        ("scores", "similarity", 0.5),
        ("scores", "top_prompt", "other"),
        ("scores", "review", 0.0),
        ("scores", "block", 0.0),
        ("scores", "action", "other"),
        ("scores", "frame", 7),
        ("scores", "category", "other"),
        ("scores", "severity", "other"),
        ("scores", "mode", "off"),
        ("scores", "etag", "other"),
        ("embeddings", "etag", "other"),
        ("embeddings", "sha256", "other"),
    ],
)
def test_a_value_that_does_not_follow_is_found(output: Store, table: Table, column: str, value: object) -> None:
    uris: list[str] = []

    def edit(rows: pa.Table) -> pa.Table:
        at = row_where(rows, status="scored", action="allow") if table == "decisions" else 3
        uris.append(rows["uri"][at].as_py())
        new = not rows[column][at].as_py() if column == "near_threshold" else value
        return with_value(column, at, new)(rows)

    tamper(output, table, edit)
    found = replay_run(output, "run-1")
    assert not found.identical
    assert found.differences == 1
    assert found.differing_images == 1
    assert dict(found.by_column) == {f"{table}.{column}": 1}
    [shown] = found.shown
    assert (shown.uri, shown.table, shown.column) == (uris[0], table, column)
    assert shown.stored != shown.recomputed
    assert (shown.rule is not None) == (table == "scores")
    assert found.problems == ()


def test_the_smallest_change_of_a_score_is_reported(output: Store) -> None:
    def edit(rows: pa.Table) -> pa.Table:
        score = np.float32(rows["score"][5].as_py())
        return with_value("score", 5, np.nextafter(score, np.float32(1)))(rows)

    tamper(output, "scores", edit)
    found = replay_run(output, "run-1")
    assert dict(found.by_column) == {"scores.score": 1}
    [shown] = found.shown
    assert np.float32(shown.stored) == np.nextafter(np.float32(shown.recomputed), np.float32(1))
    assert found.largest is not None
    assert 0 < found.largest < 1e-6


def test_a_changed_embedding_changes_scores(output: Store) -> None:
    def edit(rows: pa.Table) -> pa.Table:
        vectors = np.stack(rows["embedding"].to_numpy())
        vectors[0] = vectors[1]
        kind = rows.schema.field("embedding").type
        return rows.set_column(
            rows.schema.get_field_index("embedding"),
            rows.schema.field("embedding"),
            pa.FixedSizeListArray.from_arrays(vectors.ravel(), type=kind),
        )

    tamper(output, "embeddings", edit)
    found = replay_run(output, "run-1")
    assert found.differing_images == 1
    assert found.by_column["scores.score"] >= 4


def test_errors_are_decided_by_unreadable(output: Store) -> None:
    def edit(rows: pa.Table) -> pa.Table:
        return with_value("action", row_where(rows, status="error"), "allow")(rows)

    tamper(output, "decisions", edit, status="error")
    [shown] = replay_run(output, "run-1").shown
    assert (shown.column, shown.stored, shown.recomputed) == ("action", "allow", "review")


def test_an_unknown_error_code_is_reported(output: Store) -> None:
    tamper(output, "decisions", lambda rows: with_value("error_code", row_where(rows, status="error"), "odd")(rows), "error")
    found = replay_run(output, "run-1")
    assert [(one.column, one.stored) for one in found.shown] == [("error_code", "odd")]


def test_columns_that_came_after_a_file_was_written_are_no_differences(output: Store) -> None:
    later = [f.name for f in schemas.DECISIONS if f.metadata[b"since"] != b"1"]
    assert later

    def first_version(rows: pa.Table) -> pa.Table:
        return rows.drop_columns(later).replace_schema_metadata({"schema_version": "1"})

    tamper(output, "decisions", first_version)
    assert replay_run(output, "run-1").identical
    files = RunFiles(output, manifest_of(output))
    assert set(later) in [shard.later for shard in load_shards(files, shards_of(files)[0])]


def test_a_column_that_a_file_should_have_and_lacks_is_reported(output: Store) -> None:
    tamper(output, "decisions", lambda rows: rows.drop_columns(["top_rule"]))
    assert replay_run(output, "run-1").by_column.keys() == {"decisions.top_rule"}


def test_missing_and_surplus_rows_of_scores_are_reported(output: Store) -> None:
    def edit(rows: pa.Table) -> pa.Table:
        return pa.concat_tables([rows.slice(1), rows.slice(4, 1), with_value("rule", 0, "nobodys")(rows.slice(9, 1))])

    tamper(output, "scores", edit)
    found = replay_run(output, "run-1")
    assert {(one.stored, one.recomputed) for one in found.shown} == {
        ("no row", "a row"),
        ("a second row", "one row"),
        ("a row", "no row"),
    }
    assert dict(found.by_column) == {"scores.row": 3}


def test_all_differences_are_counted_and_twenty_shown(output: Store) -> None:
    def edit(rows: pa.Table) -> pa.Table:
        column = pa.array(["other"] * rows.num_rows)
        return rows.set_column(rows.schema.get_field_index("top_prompt"), rows.schema.field("top_prompt"), column)

    tamper(output, "scores", edit)
    found = replay_run(output, "run-1")
    assert len(found.shown) == 20 < found.differences == found.by_column["scores.top_prompt"]


def first(output: Store, table: Table) -> str:
    return next(entry.path for entry in manifest_of(output).files if entry.table == table)


def test_files_that_are_gone_cut_short_or_grown_are_one_line_each(output: Store) -> None:
    scores, decisions = first(output, "scores"), first(output, "decisions")
    output.delete(scores)
    found = replay_run(output, "run-1")
    assert found.shards_replayed == found.shards - 1
    assert next(line.partition(" is missing")[0] for line in found.problems) == output.uri_of(scores)
    assert "sums were not compared" in found.problems[1]
    assert len(found.problems) == 2

    data = output.get(decisions)
    output.put(decisions, data[: len(data) // 2])
    found = replay_run(output, "run-1")
    damaged = [line for line in found.problems if "is damaged" in line]
    assert len(damaged) == 1
    assert output.uri_of(decisions) in damaged[0]
    assert "\n" not in damaged[0]
    assert any(f"{len(data) // 2:,} bytes; the manifest says {len(data):,}" in line for line in found.problems)


def test_a_flipped_byte_in_a_file_is_reported(output: Store) -> None:
    path = first(output, "embeddings")
    data = bytearray(output.get(path))
    data[200] ^= 0xFF
    output.put(path, bytes(data))
    assert not replay_run(output, "run-1").identical


def test_rows_that_the_manifest_does_not_count_are_reported(output: Store) -> None:
    manifest = manifest_of(output)
    entries = tuple(one.model_copy(update={"rows": one.rows + 1}) for one in manifest.files[:1]) + manifest.files[1:]
    rewrite(output, manifest, files=entries)
    assert f"rows; the manifest says {manifest.files[0].rows + 1}" in problem(replay_run(output, "run-1"))


def test_a_file_that_no_manifest_names_is_reported(output: Store) -> None:
    path = first(output, "decisions")
    extra = path.replace(".parquet", "-copy.parquet")
    output.put(extra, output.get(path))
    assert problem(replay_run(output, "run-1")) == f"{output.uri_of(extra)} is not in the manifest"


def test_files_elsewhere_are_not_read(output: Store, tmp_path: Path) -> None:
    manifest = manifest_of(output)
    away = manifest.files[0].model_copy(update={"path": f"../{tmp_path.name}/{manifest.files[0].path}"})
    rewrite(output, manifest, files=(away, *manifest.files[1:]))
    found = replay_run(output, "run-1")
    assert any("where this run has no file" in line for line in found.problems)
    assert found.shards_replayed == found.shards - 1


def test_embeddings_that_are_not_unit_vectors_are_reported(output: Store) -> None:
    def edit(rows: pa.Table) -> pa.Table:
        vectors = np.stack(rows["embedding"].to_numpy())
        vectors[0, 3], vectors[2] = np.nan, 0.5 * vectors[2]
        kind = rows.schema.field("embedding").type
        return rows.set_column(
            rows.schema.get_field_index("embedding"),
            rows.schema.field("embedding"),
            pa.FixedSizeListArray.from_arrays(vectors.ravel(), type=kind),
        )

    tamper(output, "embeddings", edit)
    found = replay_run(output, "run-1")
    assert len(found.problems) >= 1
    assert "is not a unit vector: it contains a value that is not a number; so are 1 more" in found.problems[0]
    assert any(one.recomputed == "nan" for one in found.shown)


def test_embeddings_of_other_images_are_reported(output: Store) -> None:
    tamper(output, "embeddings", lambda rows: rows.slice(1).filter(pa.compute.not_equal(rows["uri"].slice(1), rows["uri"][0])))
    found = replay_run(output, "run-1")
    assert any("1 scored images have no embedding" in line for line in found.problems)


def test_sums_of_the_manifest_are_compared(output: Store) -> None:
    manifest = manifest_of(output)
    from dataclasses import replace

    counts = replace(manifest.counts, review=manifest.counts.review + 1, flagged={**manifest.counts.flagged, "x": 2})
    rewrite(output, manifest, counts=counts, listed=manifest.listed + 1)
    found = replay_run(output, "run-1")
    assert found.differences == 0
    assert len(found.problems) == 3
    assert "do not add up" in found.problems[0]
    assert f"counts {manifest.counts.review + 1} (review); replayed there are {manifest.counts.review}" in found.problems[1]
    assert "(flagged, x)" in found.problems[2]


def test_a_policy_that_was_edited_in_the_manifest_is_reported(output: Store) -> None:
    manifest = manifest_of(output)
    rewrite(output, manifest, policy_text=manifest.policy_text.replace("unreadable: review", "unreadable: allow"))
    found = replay_run(output, "run-1")
    assert not found.identical
    assert found.prompts == "none"
    assert found.shards_replayed == 0
    assert "hash" in problem(found)
    rewrite(output, manifest, policy_text="policy: [")
    assert "can no longer be read" in problem(replay_run(output, "run-1"))


def test_prompts_that_are_lost_or_of_another_model_are_reported(output: Store) -> None:
    manifest = manifest_of(output)
    assert manifest.prompts is not None
    key = manifest.prompts.replace(manifest.model_fingerprint, "0" * 16)
    rewrite(output, manifest, prompts=key)
    assert f"names the prompt embeddings {key!r}" in problem(replay_run(output, "run-1"))
    rewrite(output, manifest)
    output.delete(manifest.prompts)
    found = replay_run(output, "run-1")
    assert "cannot read the prompt embeddings" in problem(found)
    assert not found.identical


def test_prompt_embeddings_that_were_changed_are_found(output: Store) -> None:
    manifest = manifest_of(output)
    assert manifest.prompts is not None
    rows = pq.read_table(io.BytesIO(output.get(manifest.prompts)))
    vectors = np.array(rows["embedding"].to_pylist(), np.float32)
    vectors[:] = vectors[::-1]
    kind = rows.schema.field("embedding").type
    rows = rows.set_column(1, "embedding", pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), kind.list_size))
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    output.put(manifest.prompts, buffer.getvalue())
    assert read_prompts(output, manifest.prompts).logit_scale > 1
    found = replay_run(output, "run-1")
    assert found.by_column["scores.score"] > 100
    assert found.largest is not None
    assert found.largest > 0.01


def test_a_run_from_before_prompts_were_kept_is_computed_by_the_model(output: Store) -> None:
    manifest = manifest_of(output)
    output.delete_folder("_prompts/")
    rewrite(output, manifest, prompts=None)
    found = replay_run(output, "run-1")
    assert found.prompts == "computed"
    assert found.problems == ()
    assert found.largest is None or found.largest < 1e-5
    assert not any(output.list("_prompts/")), "a replay writes nothing"


def test_a_model_that_is_not_installed_is_reported(output: Store) -> None:
    manifest = manifest_of(output)
    output.delete_folder("_prompts/")
    fingerprint = "0" * 16
    moved = [
        entry.model_copy(update={"path": entry.path.replace(manifest.model_fingerprint, fingerprint)})
        for entry in manifest.files
    ]
    rewrite(output, manifest, prompts=None, model_fingerprint=fingerprint, files=tuple(moved))
    found = replay_run(output, "run-1")
    assert any("stored no prompt embeddings, and they cannot be computed" in line for line in found.problems)
    assert found.prompts == "none"
    assert not found.identical


def test_a_quarantined_run_is_replayed_where_it_lies(output: Store) -> None:
    manifest = manifest_of(output)
    for entry in manifest.files:
        output.copy(entry.path, f"_quarantine/run-1/{entry.path}")
        output.delete(entry.path)
    output.put("_quarantine/run-1/runs/run-1.json", manifest.model_copy(update={"state": "quarantined"}).to_json())
    output.delete("runs/run-1.json")
    found = replay_run(output, "run-1")
    assert found.state == "quarantined"
    assert found.identical
    assert found.scored == manifest.scored
    assert [one.run_id for one in replay_all(output)] == ["run-2"]


def test_what_is_no_run_is_refused(output: Store, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no run 'run-3'.*did you mean"):
        replay_run(output, "run-3")
    note = {"source": ["a"], "started_at": "2026-11-23T03:00:00+00:00"}
    output.put("_staging/run-4/run.json", json.dumps(note).encode())
    with pytest.raises(SettingsError, match="run-4 is unfinished"):
        replay_run(output, "run-4")
    with pytest.raises((SettingsError, OutputError)):
        list(replay_all(Store(str(tmp_path / "nothing"))))


def test_a_file_that_is_not_a_manifest_is_one_failed_run(output: Store) -> None:
    output.put("runs/run-1.json", b'{"run_id": "run-1"')
    with pytest.raises(OutputError, match=r"run-1.json is not a manifest of this program"):
        replay_run(output, "run-1")
    broken, good = replay_all(output)
    assert not broken.identical
    assert good.identical


def test_nan_equals_nan_and_zeros_have_signs() -> None:
    a = pa.array([np.nan, 0.0, None, 1.0, None], pa.float32())
    b = pa.array([np.nan, -0.0, None, 1.0, 0.0], pa.float32())
    assert differing(a, b).tolist() == [False, True, False, False, True]
    assert differing(pa.array(["a", None, "b"]), pa.array(["a", "x", "c"])).tolist() == [False, True, True]


@pytest.fixture
def moderate(output: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*arguments: str, code: int = 0) -> str:
        import typer

        command = typer.Typer()
        command.command()(replay)
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr(sys, "argv", ["replay", *arguments, "--results", output.uri.removeprefix("file://")])
        with pytest.raises(SystemExit) as left:
            command()
        assert (left.value.code or 0) == code
        found = capsys.readouterr()
        return found.out + found.err

    return call


def test_the_command_says_what_differs(output: Store, moderate: Callable[..., str]) -> None:
    told = moderate("run-1")
    assert "identical: recomputing from the stored embeddings and policy gives every decision and score, bit for bit" in told
    assert moderate("--all").splitlines()[-1] == "2 of 2 runs are identical"
    tamper(output, "decisions", with_value("policy", 0, "\x1b[31m[bold]other"))
    told = moderate("run-1", code=1)
    assert "1 value differs in 1 image: decisions.policy 1" in told
    assert "␛[31m[bold]other" in told
    assert "\x1b" not in told
    found = json.loads(moderate("run-1", "--json", code=1))
    assert found["identical"] is False
    assert found["shown"][0]["stored"] == "\x1b[31m[bold]other"
    found = json.loads(moderate("--all", "--json", code=1))
    assert [one["identical"] for one in found] == [False, True]


def test_uris_in_the_printed_table_are_not_cut(
    output: Store, moderate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(output, "decisions", with_value("policy", 0, "other"))
    uri = json.loads(moderate("run-1", "--json", code=1))["shown"][0]["uri"]
    set_variable = monkeypatch.setenv
    monkeypatch.setattr(monkeypatch, "setenv", lambda name, value: set_variable(name, "24" if name == "COLUMNS" else value))
    assert len(uri) > 24
    assert visible(uri) in moderate("run-1", code=1)


def test_replaying_loads_no_torch(output: Store) -> None:
    import subprocess

    program = (
        "import sys; from moderation.studies.replay.replaying import replay_run; from moderation.storage import Store; "
        f"assert replay_run(Store({output.uri.removeprefix('file://')!r}), 'run-1').identical; "
        "assert not {'torch', 'open_clip', 'prefect', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

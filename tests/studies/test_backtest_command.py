"""`moderate policy backtest` as users meet it: what it prints and writes, exit codes, one-line errors, no model needed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from archived import (
    FIRST,
    MODEL,
    NEW,
    NEW_TEXT,
    OLD,
    OLD_TEXT,
    OTHER_MODEL,
    SECOND,
    THIRD,
    Run,
    head,
    policy_file,
    some_images,
    write_runs,
)
from scored_demo import objects_under, publish_scored

from moderation import Store, cli
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import published_manifests
from moderation.results.read_run import read_decisions
from moderation.results.stored_prompts import keep_prompts

IMAGES = some_images(120, seed=7)


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two runs over the same images, the second of some of them. No test changes it."""
    folder = str(tmp_path_factory.mktemp("command") / "results")
    write_runs(Store(folder), Run(FIRST, OLD, IMAGES), Run(SECOND, OLD, IMAGES[:30]))
    keep_new(folder)
    return folder


def keep_new(folder: str) -> None:
    """The prompts of the new policy, as a run under it over nothing keeps them."""
    keep_prompts(Store(folder), MODEL, head(NEW))


@pytest.fixture
def ask(results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The command in this process; it stands in an empty folder. The policy is the new one if none is given."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, policy: str = NEW_TEXT, results: str = results) -> Answer:
        command = [policy_file(tmp_path, policy), "--results", results, "--no-thumbnails", *arguments]
        monkeypatch.setattr(sys, "argv", ["moderate", "policy", "backtest", *command])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


def one_line(found: Answer) -> str:
    assert found.code == 2
    assert found.out == ""
    assert found.err.startswith("error: ")
    assert len(found.err.splitlines()) == 1
    assert "Traceback" not in found.err
    return found.err


# --- what it says -----------------------------------------------------------------------------------------------------------


def test_it_prints_what_changes_and_writes_the_page_and_the_list(ask: Ask, tmp_path: Path) -> None:
    found = ask()
    assert found.code == 0
    folder = tmp_path / f"backtest-shop-{NEW.hash[:8]}"
    changed = pq.read_table(folder / "changed.parquet")
    for told in (
        f"shop 2 ({NEW.hash})",
        f"published: shop 1 ({OLD.hash})",
        f"demo {MODEL}, 2 runs",
        "2026-11-01 to 2026-11-09 (UTC), 9 days",
        f"{len(changed)} images get a different decision",
        "divided by the 9 days from 2026-11-01 to 2026-11-09",
        "s3://shop/listings/",
        "2026-11-05",
        "Nearest to the new thresholds",
    ):
        assert told in found.out, told
    for rule in ("beer", "firearms", "nudity", "fireworks", "gone"):
        assert f"│ {rule} " in found.out
    assert found.err.count("written: ") == 2
    assert (folder / "backtest.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in folder.iterdir()) == ["backtest.html", "changed.parquet"]


def test_hostile_names_are_shown_harmlessly(ask: Ask) -> None:
    found = ask("--where", "uri LIKE '%red%' OR uri LIKE '%line%' OR uri LIKE '%1+1%'")
    assert found.code == 0
    assert "\x1b" not in found.out
    assert "images that do not meet the condition: uri LIKE" in found.out


def test_an_earlier_backtest_is_replaced_and_other_files_stay(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("keep")
    assert "written: mine/changed.parquet" in ask("--output", "mine").err
    found = ask("--output", "mine", "--against", policy_file(tmp_path, NEW_TEXT, "same.yaml"))
    assert "replaced an earlier backtest's file: mine/changed.parquet" in found.err
    assert pq.read_table(folder / "changed.parquet").num_rows == 0
    assert (folder / "notes.txt").read_text() == "keep"


def test_json_output_has_the_same_numbers(ask: Ask, tmp_path: Path) -> None:
    found = ask("--json", "--since", "2026-11-10", "--max-new-blocks", "100%")
    content = json.loads(found.out)
    assert found.out.isascii()
    changed = pq.read_table(content["files"]["changed"]).to_pylist()
    assert content["changed"] == len(changed) == sum(t["images"] for t in content["transitions"] if t["before"] != t["after"])
    assert content["images"] == content["scored"] + content["errors"] == 30
    assert (content["runs_left_out"], content["model"]["fingerprint"]) == (1, MODEL)
    assert content["new_blocks"] == sum(row["after"] == "block" for row in changed)
    per_day = content["per_day"]
    blocks = sum(t["images"] for t in content["transitions"] if t["after"] == "block")
    assert per_day["after"]["block"] == pytest.approx(blocks / per_day["days"])
    assert {rule["rule"] for rule in content["rules"]} == {"beer", "firearms", "nudity", "fireworks", "gone"}
    assert content["over_budget"] == []


def test_the_same_policy_changes_nothing(ask: Ask, tmp_path: Path) -> None:
    for against in ("published", policy_file(tmp_path, OLD_TEXT, "old.yaml")):
        found = ask("--against", against, "--max-new-blocks", "0", "--max-new-reviews", "0", policy=OLD_TEXT)
        assert found.code == 0
        assert "0 images get a different decision (0%)" in found.out


# --- budgets ----------------------------------------------------------------------------------------------------------------


def test_too_many_new_blocks_is_exit_code_3_with_everything_written(ask: Ask, tmp_path: Path) -> None:
    found = ask("--max-new-blocks", "0.1%", "--output", "out")
    content = json.loads(ask("--json", "--max-new-blocks", "0.1%", "--max-new-reviews", "0").out)
    assert found.code == 3
    blocks = content["new_blocks"]
    assert f"error: {blocks} images become blocked that were not, " in found.err
    assert f"of 120: {blocks} more than the 0 that --max-new-blocks 0.1% allows" in found.err
    assert len(content["over_budget"]) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"backtest.html", "changed.parquet"}
    assert ask("--max-new-blocks", str(blocks)).code == 0
    assert ask("--max-new-blocks", str(blocks - 1)).code == 3
    assert ask("--max-new-reviews", "0").code == 3
    assert "--max-new-blocks: 'many' is not a limit" in one_line(ask("--max-new-blocks", "many"))


# --- mistakes ---------------------------------------------------------------------------------------------------------------


def test_mistakes_in_the_policies_are_located(ask: Ask, tmp_path: Path) -> None:
    found = ask(policy=NEW_TEXT.replace("prompts: [fireworks]", "promts: [fireworks]"))
    assert found.code == 2
    assert "policy.yaml:13:" in found.err
    assert "prompts" in found.err
    found = ask("--against", policy_file(tmp_path, "policy: [", "old.yaml"))
    assert found.code == 2
    assert "old.yaml:" in found.err
    assert "cannot read the policy" in one_line(ask("--against", "nowhere.yaml"))
    other = OLD_TEXT.replace("{name: demo}", "{name: RN50, pretrained: openai}")
    told = one_line(ask("--against", policy_file(tmp_path, other, "other.yaml")))
    assert "name different models, RN50/openai and demo" in told


def test_results_without_runs_are_reported(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no run is published under" in one_line(ask(results="empty"))
    assert "nowhere" in one_line(ask(results="nowhere"))
    assert "none of the runs selected is published" in one_line(ask("--since", "2030-01-01"))
    assert "--since: 'monday' is not a time" in one_line(ask("--since", "monday"))
    assert ask("--since", "200000h").code == ask("--since", "9000d").code == 0
    assert "none of the runs selected" in one_line(ask("--since", "0h"))


def test_a_condition_that_is_none_is_one_line_that_names_columns(ask: Ask) -> None:
    assert "no column 'colour'; they have run_id, uri, etag" in one_line(ask("--where", "colour = 'red'"))
    assert "syntax error" in one_line(ask("--where", "uri LIKE"))
    assert "disabled by configuration" in one_line(ask("--where", "(SELECT count(*) FROM read_text('/etc/passwd')) > 0"))
    assert "true for none of the 120 images" in one_line(ask("--where", "width > 10000"))


def test_damaged_files_are_named(ask: Ask, tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    write_runs(output, Run(FIRST, NEW, IMAGES))
    (manifest,) = published_manifests(output)
    for table in ("decisions", "embeddings"):
        path = next(entry.path for entry in manifest.files if entry.table == table)
        whole = output.get(path)
        output.put(path, whole[:-100])
        told = one_line(ask(results=str(tmp_path / "results")))
        assert path in told
        assert "damaged" in told
        output.put(path, whole)
    assert ask(results=str(tmp_path / "results")).code == 0


def test_embeddings_of_several_models_are_refused_with_the_way_out(ask: Ask, tmp_path: Path) -> None:
    folder = str(tmp_path / "results")
    other = Run(SECOND, OLD, IMAGES[:20], fingerprint=OTHER_MODEL)
    named = Run(THIRD, OLD, IMAGES[:10], fingerprint="1" * 16, model="RN50/openai")
    write_runs(Store(folder), Run(FIRST, OLD, IMAGES), other, named)
    found = ask(policy=OLD_TEXT, results=folder)
    assert found.code == 2
    assert "2 different models, which cannot be compared" in found.err
    assert found.err.rstrip().endswith("choose one with --fingerprint")
    found = ask("--fingerprint", OTHER_MODEL, policy=OLD_TEXT, results=folder)
    assert found.code == 0
    assert f"images that another model scored: demo {MODEL}: " in found.out
    assert "images that another model scored: RN50/openai 1111111111111111: " in found.out
    assert f"there are:\n  demo {MODEL}" in ask("--fingerprint", "nonsense", policy=OLD_TEXT, results=folder).err
    new = OLD_TEXT.replace("{name: demo}", "{name: ViT-B-32, pretrained: openai}")
    assert "there are no embeddings of the model ViT-B-32/openai" in ask(policy=new, results=folder).err


# --- without a model --------------------------------------------------------------------------------------------------------


def in_a_process(*arguments: str, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    program = (
        f"import sys\n{before}\nfrom moderation import cli\nsys.argv = ['moderate', 'policy', 'backtest', *{arguments!r}]\n"
        f"try:\n    cli.main()\nfinally:\n    {after or 'pass'}"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "print([name for name in ('torch', 'open_clip', 'ray', 'prefect') if name in sys.modules])"),
        ("for name in ('torch', 'open_clip', 'torchvision', 'ray', 'prefect'): sys.modules[name] = None", "print([])"),
    ],
    ids=["is not imported", "cannot be imported"],
)
def test_with_known_prompts_torch_is_not_needed(results: str, tmp_path: Path, before: str, after: str) -> None:
    file = policy_file(tmp_path, OLD_TEXT.replace("review: 0.5", "review: 0.4"))
    done = in_a_process(
        file, "--results", results, "--no-thumbnails", "--output", str(tmp_path / "out"), before=before, after=after
    )
    assert done.returncode == 0, done.stderr
    assert "images get a different decision" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_ctrl_c_stops_it_in_a_line_and_leaves_nothing(results: str, tmp_path: Path) -> None:
    # Every shard takes a second, so that there is time to interrupt.
    slow = (
        "import time\nfrom moderation.studies.backtest.shard_backtest import Comparison\nreal = Comparison.__call__\n"
        "def call(self, images):\n    print('at work', flush=True)\n    time.sleep(1)\n    return real(self, images)\n"
        "Comparison.__call__ = call\n"
    )
    arguments = ("backtest", policy_file(tmp_path, NEW_TEXT), "--results", results, "--output", str(tmp_path / "out"))
    program = f"{slow}import sys\nfrom moderation import cli\nsys.argv = ['moderate', 'policy', *{arguments!r}]\ncli.main()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("at work")
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "stopped before everything was written\n"
    assert not list((tmp_path / "out").iterdir())


# --- the real model ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A part of the demo's images, animated ones and broken ones among them, scored by the bundled model."""
    folder = tmp_path_factory.mktemp("demo")
    images = objects_under(IMAGES_DIR)
    animated = [image for image in images if image.uri.endswith((".gif", ".webp"))]
    chosen = sorted({*images[::12], *animated[:8], *images[-4:]}, key=lambda image: image.uri)
    publish_scored(Store(str(folder / "results")), chosen)
    return {"folder": folder, "results": str(folder / "results"), "images": chosen}


def with_prompts(prompts: str) -> str:
    """The demo's policy with other prompts in its first rule."""
    return re.sub(r"(?m)^    prompts: \[.*\]$", f"    prompts: [{prompts}]", POLICY_FILE.read_text(), count=1)


def test_a_backtest_of_the_demo_equals_a_run_under_the_new_policy(demo: dict[str, Any], ask: Ask) -> None:
    text = POLICY_FILE.read_text()
    assert "0 images get a different decision" in ask(policy=text, results=demo["results"]).out
    new = (
        with_prompts("a dog, a cup").replace("unreadable: review", "unreadable: block").replace("review: 0.40", "review: 0.05")
    )
    content = json.loads(ask("--json", policy=new, results=demo["results"]).out)
    file = demo["folder"] / "new.yaml"
    file.write_text(new)
    full = Store(str(demo["folder"] / "full"))
    manifest = publish_scored(full, demo["images"], file, run_id=SECOND)
    after = {row["uri"]: row for row in read_decisions(full, manifest).to_pylist()}
    output = Store(demo["results"])
    (earlier,) = published_manifests(output)
    before = {row["uri"]: row for row in read_decisions(output, earlier).to_pylist()}
    changed = {row["uri"]: row for row in pq.read_table(content["files"]["changed"]).to_pylist()}
    assert set(changed) == {uri for uri in after if before[uri]["action"] != after[uri]["action"]}
    assert len(changed) > 3
    for uri, row in changed.items():
        assert (row["after"], row["flags_after"]) == (after[uri]["action"], after[uri]["flags"])
        if row["rule_after"] is not None:
            expected = tuple(after[uri][name] for name in ("top_rule", "top_score", "frame"))
            assert (row["rule_after"], row["score"], row["frame"]) == expected
    assert any(row["rule_after"] for row in changed.values())


def test_new_prompts_need_the_model_and_are_then_kept(demo: dict[str, Any], tmp_path: Path) -> None:
    file = policy_file(tmp_path, with_prompts("a violin in a shop window"))
    arguments = (file, "--results", demo["results"], "--no-thumbnails", "--output", str(tmp_path / "out"))
    told = "print('torch' in sys.modules)"
    first, second = (in_a_process(*arguments, after=told) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert [done.stdout.splitlines()[-1] for done in (first, second)] == ["True", "False"]

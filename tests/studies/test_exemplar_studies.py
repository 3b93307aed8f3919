"""Rules that compare exemplars, on stored embeddings: replay, and drawing a background."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scored_demo import RUN, objects_under, publish_scored
from typer.testing import CliRunner

from moderation import Store
from moderation.cli import app
from moderation.demo import IMAGES_DIR, LABELS_FILE
from moderation.errors import PolicyError
from moderation.policy_files.loading import load_policy, read_policy
from moderation.results.archive import ModelRuns, open_archive
from moderation.results.manifest import Manifest, find_manifest
from moderation.results.read_run import read_decisions, read_scores
from moderation.results.stored_exemplars import keep_exemplars, read_exemplars
from moderation.results.stored_policy import stored_policy
from moderation.scoring.prompt_embeddings import archive_exemplars, compiled_for
from moderation.studies.background.background_file import (
    background_csv,
    name_background,
    policy_without_background,
    with_background,
    write_background,
)
from moderation.studies.background.drawing_background import Drawn, OrdinaryImage, draw_background, spread
from moderation.studies.model_comparison.object_scores import load_model
from moderation.studies.replay.replaying import replay_run

POLICY = """# Kept by trust and safety.
policy: tools
model: {name: demo}
contrast: [a face, an animal, food]
# What the rule is compared with.
background: [ordinary/*]

# All rules.
rules:
  - id: tools
    score: examples   # words are weak here
    like: [like/*]
    review: 0.50
  - {id: words, prompts: [a pistol], review: 0.5}
"""


def labelled(glyphs: str) -> list[Path]:
    with open(LABELS_FILE, encoding="utf-8", newline="") as file:
        return [IMAGES_DIR / row["file"] for row in csv.DictReader(file) if row["glyph"] and row["glyph"] in glyphs]


TOOLS, FOOD = labelled("🔨🔧🪛🪚⛏"), labelled("☕🍵🥛🥤🧃🧋🍼🥄")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with exemplars, images, and one run over them."""
    folder = tmp_path_factory.mktemp("exemplars")
    for name, pictures in {
        "here/like": TOOLS[:4],
        "here/ordinary": FOOD[:6],
        "images": [*TOOLS[4:], *FOOD[6:], *labelled("🔫🎯🧩🎮♟🔦📌🧪")],
    }.items():
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(pictures):
            shutil.copy(picture, folder / name / f"{number:02}{picture.suffix.lower()}")
    (folder / "here" / "p.yaml").write_text(POLICY)
    publish_scored(Store(str(folder / "results")), objects_under(folder / "images"), folder / "here" / "p.yaml")
    return folder


@pytest.fixture
def output(world: Path, tmp_path: Path) -> Store:
    shutil.copytree(world / "results", tmp_path / "results")
    return Store(str(tmp_path / "results"))


@pytest.fixture
def policy(world: Path, tmp_path: Path) -> Path:
    shutil.copytree(world / "here", tmp_path / "here")
    return tmp_path / "here" / "p.yaml"


def scores(output: Store) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_scores(output, manifest(output, RUN)).to_pylist()
    return [row for row in found if row["rule"] == "tools"]


def decided(output: Store, run_id: str) -> dict[str, str]:
    rows = read_decisions(output, manifest(output, run_id)).to_pylist()
    return {row["uri"]: row["action"] for row in rows}


def manifest(output: Store, run_id: str) -> Manifest:
    found = find_manifest(output, run_id)
    assert found is not None
    return found


def test_exemplars_find_what_they_show(output: Store) -> None:
    rows = scores(output)
    assert all(row["top_prompt"].startswith("like/") for row in rows)
    ranked = sorted(rows, key=lambda row: -row["score"])
    tools = len(TOOLS) - 4
    assert sum(Path(row["uri"]).name < f"{tools:02}" for row in ranked[:tools]) >= tools - 1


def test_a_run_is_replayed_bit_for_bit_when_its_exemplars_are_gone(output: Store, policy: Path) -> None:
    shutil.rmtree(policy.parent)
    found = replay_run(output, RUN)
    assert found.identical, found
    assert found.prompts == "stored"


def test_a_run_whose_stored_exemplars_are_gone_is_not_identical(output: Store, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "results" / "_exemplars")
    found = replay_run(output, RUN)
    assert "cannot read the embeddings of exemplars" in found.problems[0]


@pytest.mark.parametrize(("size", "problem"), [(128, "differ"), (64, "their lengths differ"), (None, "have no embedding")])
def test_embeddings_of_exemplars_that_were_changed_are_noticed(output: Store, size: int | None, problem: str) -> None:
    run = manifest(output, RUN)
    assert run.exemplars is not None
    images = read_exemplars(output, run.exemplars)
    if size is None:
        output.put(f"runs/{RUN}.json", run.model_copy(update={"exemplars": None}).to_json())
    else:
        output.delete(run.exemplars)
        keep_exemplars(output, run.model_fingerprint, {digest: -vectors[:, :size] for digest, vectors in images.items()})
    found = replay_run(output, RUN)
    assert not found.identical
    if size == 128:
        assert found.by_column["scores.score"] > 10
    else:
        assert problem in found.problems[0]


def test_exemplars_of_a_stored_policy_are_found_where_they_were_for_another_model(output: Store, world: Path) -> None:
    stored = stored_policy(output, manifest(output, RUN))
    places = [one.location for one in stored.assets.exemplars["tools"].like]
    assert places == [str(path) for path in sorted((world / "here" / "like").iterdir())]
    assert len(load_model(stored.model, stored).compiled.exemplars) == 10


def test_a_background_is_drawn_from_what_no_rule_flags(output: Store, policy: Path) -> None:
    policy.write_text(POLICY.replace("background: [ordinary/*]\n", ""))
    bare = policy_without_background(policy)
    archive = open_archive(output, "demo")
    liked = archive_exemplars(bare, archive)
    drawn = draw_background(archive, bare, liked, 12, seed=3)
    assert len(drawn.images) == 12
    uris = [image.uri for image in drawn.images]
    assert uris == [image.uri for image in draw_background(archive, bare, liked, 12, seed=3, threads=1).images]
    assert uris != [image.uri for image in draw_background(archive, bare, liked, 12, seed=4).images]
    flagged = {uri for uri, action in decided(output, RUN).items() if action != "allow"}
    assert flagged
    assert not flagged & {image.uri for image in drawn.images}
    keys = np.concatenate(list(liked.values())).astype(float)
    assert drawn.near == 1
    assert max(float((image.vectors.astype(float) @ keys.T).max()) for image in drawn.images) < 0.95


def test_images_that_are_chosen_lie_apart_and_none_is_chosen_twice() -> None:
    clusters = np.repeat(np.eye(4), 50, axis=0)
    assert sorted(clusters[spread(clusters, 4, np.random.default_rng(0))].argmax(axis=1)) == [0, 1, 2, 3]
    assert len(spread(clusters, 10, np.random.default_rng(0))) == 4


def test_the_command_writes_a_file_and_names_it_in_the_policy(output: Store, policy: Path, world: Path) -> None:
    text = POLICY.replace("background: [ordinary/*]\n", "").replace("# What the rule is compared with.\n", "")
    policy.write_text(text)
    assert "has nothing to compare" in read_policy(policy).findings[0].message
    arguments = ["policy", "background", str(policy), "--results", output.uri, "--n", "10"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (file,) = (policy.parent / "background").iterdir()
    assert policy.read_text() == text
    assert f"background: {{images: background/{file.name}}}" in done.output
    done = CliRunner().invoke(app, [*arguments, "--write"])
    assert done.exit_code == 0, done.output
    line = f"background: {{images: background/{file.name}}}\n\n# All rules."
    assert policy.read_text() == text.replace("# All rules.", line)
    assert len(load_policy(policy).assets.background) == 10
    done = CliRunner().invoke(app, [*arguments, "--write", "--seed", "9"])
    assert done.exit_code == 0, done.output
    assert policy.read_text().count("background:") == 1
    assert len(list((policy.parent / "background").iterdir())) == 2


def test_no_image_of_a_drawn_background_is_read(output: Store, policy: Path, world: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["policy", "background", str(policy), "-r", output.uri, "-n", "10"])
    (file,) = (policy.parent / "background").iterdir()
    assert done.exit_code == 0, done.output
    gone = file.read_text().replace("/images/", "/nowhere/")
    file.write_text(gone)
    policy.write_text(POLICY.replace("[ordinary/*]", f"{{images: background/{file.name}}}"))
    compiled = compiled_for(load_policy(policy), open_archive(output, "demo"))
    assert len(compiled.exemplars) == 14


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy: p\nbackground: [mine.jpg]\nrules: []\n", "has a background of its own"),
        ("policy: p\nbackground:\n  - {images: background/a.csv}\nrules: []\n", "has a background of its own"),
        ("{policy: p, rules: []}\n", "leaves no place"),
        ("policy: [\n", "not valid YAML"),
    ],
)
def test_a_background_that_somebody_wrote_is_not_replaced(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        with_background(text, "background/p-1.csv", "p.yaml")


def test_the_background_of_an_included_policy_is_drawn_for_that_one(policy: Path) -> None:
    ours = policy.with_name("ours.yaml")
    ours.write_text("include: p.yaml\npolicy: ours\n")
    image = OrdinaryImage("file:///a.png", "a" * 64, np.zeros((1, 4), np.float16))
    drawn = Drawn((image,), ModelRuns("demo", "0", 1, 1, "fp32", "fast"), 1, 1, 0)
    bare = policy_without_background(ours)
    name = write_background(ours, bare, background_csv(drawn))
    with pytest.raises(PolicyError, match="draw it for that one"):
        name_background(ours, bare, drawn, name)
    assert ours.read_text() == "include: p.yaml\npolicy: ours\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_line_goes_above_the_rules_and_their_comment(newline: str) -> None:
    text = newline.join(["policy: p  # mine", "", "# All", "# rules", "rules:", "  - {}", ""])
    line = "background: {images: background/p-1.csv}"
    expected = text.replace("# All", f"{line}{newline}{newline}# All")
    found = with_background(text, "background/p-1.csv", "p.yaml")
    assert found == expected
    assert with_background(found, "background/p-2.csv", "p.yaml") == expected.replace("p-1", "p-2")
    assert with_background("include: a.yaml", "background/p-1.csv", "p.yaml") == f"include: a.yaml\n{line}\n"

"""A policy with a rule of every kind and a list: replayed bit for bit, and backtested like a run."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save
from scored_demo import objects_under, publish_scored

from moderation import OpenClipEncoder, Store
from moderation.demo import IMAGES_DIR
from moderation.policy_files.loading import load_policy
from moderation.records import ObjectRef
from moderation.results.archive import open_archive
from moderation.results.manifest import published_manifests
from moderation.results.read_run import read_decisions
from moderation.scoring.prompt_embeddings import compiled_for
from moderation.studies.backtest.backtesting import backtest
from moderation.studies.replay.replaying import replay_all

KNIFE = IMAGES_DIR / "listings" / "49225-kitchen-knife.png"
POLICY = """
policy: mixed
model: {{name: demo}}
contrast: [a house, food]
unreadable: {unreadable}
background: ["ordinary/*"]
rules:
  - {{id: words, prompts: [a cigarette], review: 0.5}}
  - {{id: cosines, prompts: [a dog], score: similarity, review: 0.3, mode: shadow}}
  - {{id: knives, score: examples, like: [{like}], severity: low, review: {knives}, block: 0.9}}
  - {{id: learned, score: head, head: head.safetensors, review: {learned}}}
lists:
  - {{id: known, file: known.txt, hash: sha256, action: block}}
  - {{id: alike, file: alike.txt, hash: pdq, action: {alike}, severity: high}}
"""
OLD = {"unreadable": "review", "like": "knife.png", "knives": 0.5, "learned": 0.5, "alike": "review"}
NEW = {"unreadable": "block", "like": "knife.png, fox.png", "knives": 0.4, "learned": 0.55, "alike": "allow"}


@pytest.fixture(scope="module")
def images() -> list[ObjectRef]:
    everything = objects_under(IMAGES_DIR)
    animated = [image for image in everything if image.uri.endswith((".gif", ".webp"))][:6]
    return sorted({*everything[::9], *animated, *everything[-4:]}, key=lambda image: image.uri)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: list[ObjectRef]) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "ordinary").mkdir()
    for number, image in enumerate(objects_under(IMAGES_DIR)[1:40:9]):
        shutil.copy(image.uri.removeprefix("file://"), folder / "ordinary" / f"{number}.img")
    shutil.copy(KNIFE, folder / "knife.png")
    shutil.copy(IMAGES_DIR / "listings" / "48000-fox.png", folder / "fox.png")
    encoder = OpenClipEncoder("demo", device="cpu")
    weight = 4 * np.random.default_rng(3).normal(size=(1, encoder.dim)).astype(np.float32)
    (folder / "head.safetensors").write_bytes(
        save({"weight": weight, "bias": np.zeros(1, np.float32)}, {"model_fingerprint": encoder.fingerprint})
    )
    paths = [Path(image.uri.removeprefix("file://")) for image in images]
    (folder / "known.txt").write_text("\n".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths[:40:20]))
    (folder / "alike.txt").write_text("f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22\n")
    for name, values in (("old", OLD), ("new", NEW)):
        (folder / f"{name}.yaml").write_text(POLICY.format(**values))
    for name in ("old", "new"):
        publish_scored(Store(str(folder / f"run under {name}")), images, folder / f"{name}.yaml")
    return folder


def test_runs_replay_bit_for_bit_without_the_files_that_the_policy_named(folder: Path, tmp_path: Path) -> None:
    for name in ("run under old", "run under new"):
        shutil.copytree(folder / name, tmp_path / name)
        (found,) = replay_all(Store(str(tmp_path / name)))
        assert (found.problems, found.differing_images) == ((), 0)
        assert found.scored > 20


def test_a_backtest_equals_a_run_under_the_new_policy(folder: Path, tmp_path: Path) -> None:
    new = load_policy(folder / "new.yaml")
    archive = open_archive(Store(str(folder / "run under old")), new.model.label, resize="fast")
    changes = tmp_path / "changed.parquet"
    backtest(compiled_for(new, archive), archive, changes)
    before, after = (decided(folder / f"run under {name}") for name in ("old", "new"))
    changed = {row["uri"]: row for row in pq.read_table(changes).to_pylist()}
    assert set(changed) == {uri for uri in after if before[uri]["action"] != after[uri]["action"]}
    assert len(changed) > 3
    for uri, row in changed.items():
        assert (row["after"], row["flags_after"]) == (after[uri]["action"], after[uri]["flags"])


def decided(results: Path) -> dict[str, dict[str, Any]]:
    """The rows of the one run there."""
    (manifest,) = published_manifests(Store(str(results)))
    return {row["uri"]: row for row in read_decisions(Store(str(results)), manifest).to_pylist()}

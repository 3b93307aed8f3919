"""A policy whose one rule is scored by a head, without any prompt: checked, scored, replayed without the head's file."""

from datetime import date
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from scored_demo import objects_under, publish_scored

from moderation import OpenClipEncoder, Store
from moderation.authoring.check import check_policy
from moderation.demo import IMAGES_DIR
from moderation.policy_files.loading import load_policy
from moderation.results.archive import open_archive
from moderation.scoring.prompt_embeddings import compiled_for
from moderation.studies.replay.replaying import replay_all

POLICY = "policy: alone\nmodel: {name: demo}\nrules:\n  - {id: learned, score: head, head: one.safetensors, review: 0.5}\n"


def test_a_head_needs_no_prompt_anywhere(tmp_path: Path) -> None:
    encoder = OpenClipEncoder("demo", device="cpu")
    weight = 4 * np.random.default_rng(3).normal(size=(1, encoder.dim)).astype(np.float32)
    data = save({"weight": weight, "bias": np.zeros(1, np.float32)}, {"model_fingerprint": encoder.fingerprint})
    (tmp_path / "one.safetensors").write_bytes(data)
    (tmp_path / "p.yaml").write_text(POLICY)
    assert check_policy(tmp_path / "p.yaml", today=date(2026, 11, 28)).ok
    output = Store(str(tmp_path / "results"))
    publish_scored(output, objects_under(IMAGES_DIR)[:6], tmp_path / "p.yaml")
    archive = open_archive(output)
    assert compiled_for(load_policy(tmp_path / "p.yaml"), archive).dim == encoder.dim
    (tmp_path / "one.safetensors").unlink()
    (found,) = replay_all(output)
    assert (found.problems, found.differing_images, found.scored) == ((), 0, 6)

"""The head of the demo's policy: learned by the command from the bundled labels."""

import csv
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from scored_demo import objects_under, publish_scored
from typer.testing import CliRunner

from moderation import OpenClipEncoder, Store
from moderation.commands.learn import learn
from moderation.demo import HEAD_LABELS_FILE, IMAGES_DIR, POLICY_FILE, picture
from moderation.policy_files.loading import load_policy


def test_it_says_what_it_was_learned_from_and_belongs_to_the_demo_model():
    head = load_policy(POLICY_FILE).assets.heads["drinks"]
    with open(HEAD_LABELS_FILE, encoding="utf-8", newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    assert head.learned is not None
    assert (head.learned.positives, head.learned.negatives) == (labels.count("true"), labels.count("false"))
    assert OpenClipEncoder("demo", device="cpu").made(head.model)
    path = picture(head.name)
    evidence = json.loads(path.with_suffix(".json").read_text())
    assert evidence["sha256"] == head.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"drinks-{head.digest[:12]}.safetensors"
    assert evidence["labels_sha256"] == head.learned.labels


def test_its_labels_name_bundled_pictures():
    with open(HEAD_LABELS_FILE, encoding="utf-8", newline="") as file:
        assert all(picture(row["uri"]).is_file() for row in csv.DictReader(file))


@pytest.mark.slow
def test_the_command_learns_it_again(tmp_path: Path):
    """Other processors add in another order, so that the last digits of its numbers may differ."""
    publish_scored(Store(str(tmp_path / "results")), objects_under(IMAGES_DIR))
    text = re.sub(r"score: head\n    head: .*\n    review: .*\n", "score: contrast\n    review: 0.4\n", POLICY_FILE.read_text())
    (tmp_path / "p.yaml").write_text(text)
    app = typer.Typer()
    app.command()(learn)
    given = ["--rule", "drinks", "--results", str(tmp_path / "results"), "--labels", str(HEAD_LABELS_FILE), "--write"]
    result = CliRunner().invoke(app, [str(tmp_path / "p.yaml"), *given])
    assert result.exit_code == 0, result.output
    ours, theirs = (load_policy(path).assets.heads["drinks"] for path in (POLICY_FILE, tmp_path / "p.yaml"))
    vectors = np.random.default_rng(0).normal(size=(100, ours.dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert ours.scores(vectors) == pytest.approx(theirs.scores(vectors), abs=0.01)

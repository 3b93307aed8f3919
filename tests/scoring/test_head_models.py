"""A head belongs to one model's embeddings: in every precision of that model it works, with another model it is a mistake."""

import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from tuned_results import write_scores

from moderation import ImageScorer, OpenClipEncoder, Store
from moderation.authoring.check import check_policy
from moderation.demo import IMAGES_DIR
from moderation.errors import PolicyError, SettingsError
from moderation.policy_files.loading import load_policy
from moderation.results.archive import open_archive
from moderation.scoring.prompt_embeddings import compiled_for

KNIFE = IMAGES_DIR / "listings" / "49225-kitchen-knife.png"
POLICY = """
policy: learned
model: {name: demo}
contrast: [a house]
rules:
  - {id: words, prompts: [a cigarette], review: 0.5}
  - {id: learned, score: head, head: one.safetensors, review: 0.5}
"""
FOREIGN = "0123456789abcdef"


@pytest.fixture(scope="module")
def encoder() -> OpenClipEncoder:
    return OpenClipEncoder("demo", device="cpu")


def policy_file(folder: Path, fingerprint: str, dim: int = 128, text: str = POLICY) -> Path:
    weight = np.random.default_rng(0).normal(size=(1, dim)).astype(np.float32)
    data = save({"weight": weight, "bias": np.zeros(1, np.float32)}, {"model_fingerprint": fingerprint})
    (folder / "one.safetensors").write_bytes(data)
    (folder / "p.yaml").write_text(text)
    return folder / "p.yaml"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("resize", ["fast", "exact"])
def test_a_head_from_embeddings_of_another_precision_or_resize_scores(tmp_path, encoder, precision, resize):
    other = OpenClipEncoder("demo", device="cpu", precision=precision, resize=resize)
    assert encoder.made(other.fingerprint)
    assert other.made(encoder.fingerprint)
    policy = load_policy(policy_file(tmp_path, other.fingerprint))
    with ImageScorer(encoder, policy) as scorer:
        assert scorer.score([KNIFE]).summary.counts.scored == 1


def test_a_head_of_another_model_is_a_mistake_at_its_place(tmp_path, encoder):
    path = policy_file(tmp_path, FOREIGN)
    assert not encoder.made(FOREIGN)
    with pytest.raises(PolicyError) as caught:
        ImageScorer(encoder, load_policy(path))
    message = str(caught.value)
    assert message.startswith(
        f"{path}:7:38: the head 'one.safetensors' belongs to another model, with the fingerprint {FOREIGN}"
    )
    assert "moderate policy learn --rule learned" in message
    assert re.search(r"\^{15}", message)


def test_check_reports_it_where_the_weights_are_here(tmp_path, encoder):
    checked = check_policy(policy_file(tmp_path, FOREIGN), today=date(2026, 11, 28))
    (found,) = [finding for finding in checked.findings if finding.level == "error"]
    assert (found.line, checked.ok) == (7, False)
    assert check_policy(policy_file(tmp_path, encoder.fingerprint), today=date(2026, 11, 28)).ok
    elsewhere = POLICY.replace("{name: demo}", "{name: ViT-B-32, pretrained: laion2b_s34b_b79k}")
    checked = check_policy(policy_file(tmp_path, FOREIGN, text=elsewhere), today=date(2026, 11, 28))
    assert checked.ok
    assert "nor heads checked: the model's weights are not on this machine" in checked.note


def test_a_head_for_embeddings_of_another_size_is_refused(tmp_path, encoder):
    with pytest.raises(PolicyError, match="is for embeddings of 64 numbers, those of demo have 128"):
        ImageScorer(encoder, load_policy(policy_file(tmp_path, encoder.fingerprint, dim=64)))


def test_stored_embeddings_are_scored_by_heads_of_their_model_alone(tmp_path):
    output: Store = write_scores(tmp_path / "results", [[0.5, 0.2], [0.1, 0.3]])
    archive = open_archive(output)
    text = POLICY.replace("words, prompts: [a cigarette]", "words, prompts: [a handgun]").replace("[a house]", "[a nude]")
    of_theirs = load_policy(policy_file(tmp_path, archive.fingerprint, dim=8, text=text))
    assert compiled_for(of_theirs, archive).dim == 8
    # In another precision the weights have to tell, and those that are here did not make these results.
    foreign = load_policy(policy_file(tmp_path, "f" * 16, dim=8, text=text))
    with pytest.raises(SettingsError, match="other weights, architecture or preprocessing"):
        compiled_for(foreign, archive)

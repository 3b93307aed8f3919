"""What is said of a rule that is scored by a head: its probability, and what it was learned from."""

from datetime import date

import numpy as np
import pytest
from safetensors.numpy import save

from moderation.console.policy import show_explanations, show_policy
from moderation.policy.assets import Assets
from moderation.policy.compiled import CompiledPolicy, TextHead
from moderation.policy.explanation import explain
from moderation.policy.linting import lint, lint_prompts
from moderation.policy.schema import Policy
from moderation.policy_files.head_files import parse_head
from moderation.policy_files.loading import parse_policy

TEXT = """
policy: shop
model: {name: demo}
rules:
  - {id: learned, score: head, head: heads/one.safetensors, review: 0.5}
"""
SAID = {"prevalence": "0.01", "true_labels": "20", "false_labels": "30", "labels_sha256": "ab" * 32}
ABOUT = "learned from 20 true and 30 false labels; a probability where 1 % of images are positive"


@pytest.fixture
def policy() -> Policy:
    tensors = {"weight": np.array([[2.0, 0.0, 0.0]], np.float32), "bias": np.array([-1.0], np.float32)}
    head = parse_head(save(tensors, {"model_fingerprint": "0" * 16, **SAID}), "heads/one.safetensors")
    return parse_policy(TEXT, assets=Assets(heads={"learned": head}))


def test_the_score_is_the_heads_probability_and_a_rule_needs_no_prompt(policy, capsys):
    compiled = CompiledPolicy.build(policy, TextHead({}, 100.0, None))
    vectors = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float16)
    found = explain(compiled, vectors, [0, 3], uri="s3://shop/a.gif", frame_count=4)
    (rule,) = found.rules
    assert rule.score == pytest.approx(1 / (1 + np.exp(-1)))
    assert (rule.frame, rule.cosine, rule.prompt, rule.lookalike) == (3, 1.0, "heads/one.safetensors", None)
    assert rule.head == ABOUT
    show_explanations(policy, [("a.gif", found)])
    assert f"learned: {ABOUT}" in capsys.readouterr().out.replace("\n", " ")


def test_show_names_the_head_and_what_it_was_learned_from(policy, capsys, monkeypatch):
    show_policy(policy)
    printed = capsys.readouterr().out
    assert "one.safetenso" in printed.replace("\n", "")
    assert "probability" in printed


def test_a_rule_without_prompts_has_no_direction_of_texts(policy):
    assert CompiledPolicy.build(policy, TextHead({}, 100.0, None)).direction(0) is None


def test_prompts_of_a_head_are_where_learning_starts(policy):
    text = TEXT.replace("review", "prompts: [a gun], contrast: [a drill], review")
    with_prompts = parse_policy(text, assets=policy.assets)
    texts = {"a photo of a gun": np.array([1, 0, 0], np.float32), "a photo of a drill": np.array([0, 1, 0], np.float32)}
    compiled = CompiledPolicy.build(with_prompts, TextHead(texts, 100.0, None))
    assert compiled.direction(0) == pytest.approx(np.array([1, -1, 0]) / np.sqrt(2))


def test_neither_its_prompts_nor_a_low_threshold_are_odd(policy):
    text = TEXT.replace("review: 0.5", "prompts: [a gun], review: 0.01")
    text += "  - {id: guns, score: similarity, prompts: [a gun], review: 0.2}\n"
    found = parse_policy(text, assets=policy.assets)
    assert lint_prompts(found, ["a gun"], np.eye(1)) == []
    assert lint(found, date(2026, 11, 28)) == []

"""Every kind of score, whichever there are, keeps the facts that are stated of it."""

import numpy as np
import pytest
from support import make_policy

from moderation.errors import PolicyError
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.score_kind import ScoreKind

DIM = 8


def compiled(kind, bias=-2.0, contrast=("c", "d")):
    policy = make_policy({"prompts": ["a", "b"], "score": kind.value, "contrast": list(contrast)}, contrast=["x"])
    return CompiledPolicy.build(policy, TextHead({text: embedded(text) for text in prompt_texts(policy)}, 30.0, bias))


def embedded(text):
    return np.random.default_rng(list(text.encode())).normal(size=DIM).astype(np.float32)


def images(count=200):
    vectors = np.random.default_rng(1).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("kind", ScoreKind)
def test_scores_are_numbers_within_the_bounds_of_their_kind(kind):
    scores = compiled(kind).scores(images())
    assert np.isfinite(scores).all()
    assert kind.facts.low <= scores.min() < scores.max() <= kind.facts.high
    low, high = kind.facts.shown
    assert kind.facts.low <= low < high <= kind.facts.high


@pytest.mark.parametrize("kind", ScoreKind)
def test_a_kind_uses_contrast_where_it_says_so_and_only_there(kind):
    one, other = compiled(kind).scores(images()), compiled(kind, contrast=("other", "words")).scores(images())
    assert np.array_equal(one, other) is not kind.facts.uses_contrast


@pytest.mark.parametrize("kind", ScoreKind)
def test_a_kind_that_needs_a_bias_is_refused_without_one(kind):
    if kind.facts.needs_bias:
        with pytest.raises(PolicyError, match=f"`{kind.value}` needs a SigLIP-family model"):
            compiled(kind, bias=None)
    else:
        assert np.array_equal(compiled(kind, bias=None).scores(images()), compiled(kind).scores(images()))


@pytest.mark.parametrize("kind", ScoreKind)
def test_a_kind_is_known_by_the_name_that_files_write(kind):
    assert ScoreKind.written(kind.value) is kind
    assert all(ScoreKind.written(value) is None for value in (kind.value.upper(), "", None, 1, [kind.value]))

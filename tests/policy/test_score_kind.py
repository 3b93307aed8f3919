"""Every kind of score, whichever there are, keeps the facts that are stated of it."""

import numpy as np
import pytest
from support import make_policy

from moderation.errors import PolicyError
from moderation.policy.assets import Assets
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.exemplars import Exemplar, Exemplars
from moderation.policy.head import Head
from moderation.policy.score_kind import ScoreKind

DIM = 8


ASSETS = Assets(
    heads={
        "r0": Head("head.safetensors", "00", ((np.linspace(-4, 4, DIM, dtype=np.float32)[None], np.zeros(1, np.float32)),), "")
    },
    exemplars={"r0": Exemplars((Exemplar("liked.png", "11"),), (Exemplar("unliked.png", "22"),))},
)


def compiled(kind, bias=-2.0, contrast=("c", "d")):
    needed = {"like": ["liked.png"], "unlike": ["unliked.png"], "head": "head.safetensors", "prompts": ["a", "b"]}
    wanted = {"prompts": ("prompts",), "like": ("like", "unlike"), "head": ("head",)}[kind.facts.needs]
    rule = {"score": kind.value, "contrast": list(contrast), **{key: needed[key] for key in wanted}}
    policy = make_policy({"prompts": [], **rule}, contrast=["x"]).with_assets(ASSETS)
    pictures = {one: images(40)[at : at + 1] for at, one in enumerate(("11", "22"))}
    texts = {text: embedded(text) for text in prompt_texts(policy)}
    return CompiledPolicy.build(policy, TextHead(texts, 30.0, bias, pictures))


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

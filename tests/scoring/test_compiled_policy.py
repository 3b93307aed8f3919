"""From embeddings to rule scores: the formulas, their laws, and OpenAI's own embeddings."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import DATA, needs_data
from support import make_policy

from moderation.errors import PolicyError
from moderation.policy.compiled import CompiledPolicy, TextHead, all_prompts, prompt_texts

DIM = 16


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def random_head(policy, rng, scale=100.0, bias=None):
    return TextHead({text: rng.normal(size=DIM).astype(np.float32) for text in prompt_texts(policy)}, scale, bias)


def images(rng, count):
    return unit(rng.normal(size=(count, DIM))).astype(np.float16)


def naive(policy, head, rule, image):
    """The definition in the docs, one prompt and one number at a time."""
    image = [float(x) for x in image]

    def cosine(prompt):
        mean = [0.0] * len(image)
        for template in policy.templates:
            text = [float(x) for x in head.texts[template.replace("{}", prompt)]]
            length = math.sqrt(math.fsum(x * x for x in text))
            mean = [m + x / length for m, x in zip(mean, text, strict=True)]
        length = math.sqrt(math.fsum(x * x for x in mean))
        return math.fsum(x * m / length for x, m in zip(image, mean, strict=True))

    own = {prompt: cosine(prompt) for prompt in rule.prompts}
    similarity, top = max((value, prompt) for prompt, value in own.items())
    if rule.score == "similarity":
        return similarity, similarity, top
    if rule.score == "sigmoid":
        return 1 / (1 + math.exp(-(head.logit_scale * similarity + head.logit_bias))), similarity, top
    other = [cosine(prompt) for prompt in {*rule.contrast, *policy.contrast}]
    powers = [math.exp(head.logit_scale * s) for s in (*own.values(), *other)]
    return math.fsum(powers[: len(own)]) / math.fsum(powers), similarity, top


POLICY = make_policy(
    {"prompts": ["a", "b", "c"], "contrast": ["d", "x"]},
    {"prompts": ["b", "e"], "score": "similarity", "review": -0.5},
    {"prompts": ["a", "e"], "score": "sigmoid"},
    {"prompts": ["e"], "mode": "shadow"},
    {"prompts": ["never embedded"], "mode": "off"},
    contrast=["x", "y"],
    templates=["a photo of {}", "{}", "many {}s"],
)


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_scores_are_what_the_definition_says(scale):
    rng = np.random.default_rng(1)
    head = random_head(POLICY, rng, scale, -10.0)
    compiled = CompiledPolicy.build(POLICY, head)
    vectors = images(rng, 40)
    found = compiled.score(vectors)
    assert found.score.dtype == found.similarity.dtype == np.float32
    assert found.score.shape == found.similarity.shape == found.top_prompt.shape == (40, 4)
    for r, rule in enumerate(POLICY.active_rules):
        for n, image in enumerate(vectors):
            score, similarity, top = naive(POLICY, head, rule, image)
            assert found.score[n, r] == pytest.approx(score, rel=1e-6, abs=1e-9)
            assert found.similarity[n, r] == pytest.approx(similarity, abs=1e-6)
            assert rule.prompts[found.top_prompt[n, r]] == top


def test_the_contrast_score_by_hand():
    """Cosines 0.8 for the prompt and 0.6 for its one lookalike, scale 10: 1 / (1 + e^-2)."""
    policy = make_policy({"prompts": ["p"]}, contrast=["q"], templates=["{}"])
    texts = {"p": np.array([1, 0], np.float32), "q": np.array([0, 2], np.float32)}
    found = CompiledPolicy.build(policy, TextHead(texts, 10.0, None)).score(np.array([[0.8, 0.6]], np.float16))
    assert found.score[0, 0] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-3)
    assert found.similarity[0, 0] == pytest.approx(0.8, abs=1e-3)


def test_a_prompt_is_the_mean_of_unit_vectors_whatever_their_length():
    policy = make_policy({"prompts": ["p"], "score": "similarity"}, templates=["a {}", "the {}"])
    texts = {"a p": np.array([1000, 0], np.float32), "the p": np.array([0, 0.001], np.float32)}
    compiled = CompiledPolicy.build(policy, TextHead({**texts, "a x": texts["a p"], "the x": texts["the p"]}, 1.0, None))
    assert compiled.weights[all_prompts(policy).index("p")] == pytest.approx([math.sqrt(0.5)] * 2)


def test_only_what_is_scored_is_embedded_and_each_text_once():
    assert all_prompts(POLICY) == ["x", "y", "a", "b", "c", "d", "e"]
    texts = prompt_texts(POLICY)
    assert len(texts) == len(set(texts)) == 21
    assert texts[:3] == ["a photo of x", "x", "many xs"]


def test_a_compiled_policy_survives_pickling():
    rng = np.random.default_rng(2)
    compiled = CompiledPolicy.build(POLICY, random_head(POLICY, rng, bias=-10.0))
    vectors = images(rng, 5)
    compiled.score(vectors)  # fills its caches
    again = pickle.loads(pickle.dumps(compiled))  # noqa: S301 - our own bytes
    assert again.score(vectors).score.tobytes() == compiled.score(vectors).score.tobytes()


def test_sigmoid_without_a_bias_names_the_rule():
    policy = make_policy({}, {"id": "beer", "score": "sigmoid"}, model={"name": "ViT-B-32", "pretrained": "openai"})
    head = random_head(policy, np.random.default_rng(3))
    with pytest.raises(PolicyError, match=r"rule 'beer': `sigmoid` needs a SigLIP-family model; ViT-B-32/openai has no bias"):
        CompiledPolicy.build(policy, head)
    resting = make_policy({}, {"id": "beer", "score": "sigmoid", "mode": "off"})
    CompiledPolicy.build(resting, head)


@pytest.mark.parametrize("shape", [(3, DIM + 1), (3, DIM - 1), (DIM,), (1, 3, DIM), (0, 5)])
def test_embeddings_of_another_model_are_refused(shape):
    compiled = CompiledPolicy.build(POLICY, random_head(POLICY, np.random.default_rng(4), bias=-10.0))
    with pytest.raises(ValueError, match=rf"expected embeddings of shape \[N, {DIM}\]"):
        compiled.score(np.zeros(shape, np.float16))


def test_an_empty_batch_has_no_scores():
    compiled = CompiledPolicy.build(POLICY, random_head(POLICY, np.random.default_rng(5), bias=-10.0))
    assert compiled.score(np.zeros((0, DIM), np.float16)).score.shape == (0, 4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 70), size=st.integers(1, 70))
def test_order_and_batch_size_change_no_bit(seed, count, size):
    rng = np.random.default_rng(seed)
    compiled = CompiledPolicy.build(POLICY, random_head(POLICY, rng, bias=-10.0))
    vectors = images(rng, count)
    whole = compiled.score(vectors)
    parts = [compiled.score(vectors[i : i + size]) for i in range(0, count, size)]
    order = rng.permutation(count)
    shuffled = compiled.score(vectors[order])
    for name in ("score", "similarity", "top_prompt"):
        expected = getattr(whole, name)
        assert np.concatenate([getattr(part, name) for part in parts]).tobytes() == expected.tobytes()
        assert getattr(shuffled, name).tobytes() == expected[order].tobytes()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["contrast", "similarity", "sigmoid"]))
def test_order_of_prompts_lookalikes_templates_and_rules_changes_nothing(seed, kind):
    rng = np.random.default_rng(seed)

    def policy(shuffle):
        def mixed(items):
            return [items[i] for i in (rng.permutation(len(items)) if shuffle else range(len(items)))]

        one = {"id": "one", "prompts": mixed(["a", "b", "c"]), "contrast": mixed(["d", "e"]), "score": kind}
        two = {"id": "two", "prompts": mixed(["d", "f"]), "score": kind}
        return make_policy(*mixed([one, two]), contrast=mixed(["x", "y", "z"]), templates=mixed(["{}", "a {}", "the {}"]))

    plain, mixed = policy(shuffle=False), policy(shuffle=True)
    head = random_head(plain, rng, bias=-5.0)
    vectors = images(rng, 6)
    column = [rule.id for rule in mixed.rules].index("one")
    found = CompiledPolicy.build(mixed, head).score(vectors).score
    assert found[:, column] == pytest.approx(CompiledPolicy.build(plain, head).score(vectors).score[:, 0], abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(0.1, 200), everywhere=st.booleans())
def test_a_lookalike_never_raises_a_contrast_score(seed, scale, everywhere):
    rng = np.random.default_rng(seed)
    rule = {"prompts": ["a", "b"], "contrast": ["c"]}
    fewer = make_policy(rule, contrast=["x"])
    more = (
        make_policy(rule, contrast=["x", "new"])
        if everywhere
        else make_policy({**rule, "contrast": ["c", "new"]}, contrast=["x"])
    )
    head = random_head(more, rng, scale)
    vectors = images(rng, 10)
    before, after = (CompiledPolicy.build(p, head).score(vectors).score for p in (fewer, more))
    assert (after <= before + 1e-7).all()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(0.01, 350),
    bias=st.floats(-50, 50),
    length=st.sampled_from([0.0, 0.5, 1.0, 1.001, 60000.0]),
)
def test_scores_stay_in_range(seed, scale, bias, length):
    rng = np.random.default_rng(seed)
    compiled = CompiledPolicy.build(POLICY, random_head(POLICY, rng, scale, bias))
    with np.errstate(over="ignore"):
        vectors = (unit(rng.normal(size=(5, DIM))) * length).astype(np.float16)
    found = compiled.score(np.nan_to_num(vectors, posinf=65504, neginf=-65504))
    assert np.isfinite(found.score).all()
    for r, rule in enumerate(compiled.rules):
        low = -1 if rule.score == "similarity" else 0
        assert (low <= found.score[:, r]).all()
        assert (found.score[:, r] <= 1).all()
    assert (np.abs(found.similarity) <= 1).all()


@pytest.mark.parametrize(("own", "other", "expected"), [(1, -1, 1.0), (-1, 1, 0.0), (1, 1, 0.5), (-1, -1, 0.5), (0, 0, 0.5)])
def test_extreme_cosines_at_scale_100_give_no_overflow(own, other, expected):
    policy = make_policy({"prompts": ["p"]}, contrast=["q"], templates=["{}"])
    image = np.array([[1, 0]], np.float16)
    texts = {"p": np.array([own, own == 0], np.float32), "q": np.array([other, other == 0], np.float32)}
    assert CompiledPolicy.build(policy, TextHead(texts, 100.0, None)).score(image).score[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(("bias", "expected"), [(-1e4, 0.0), (1e4, 1.0)])
def test_an_extreme_bias_gives_no_overflow(bias, expected):
    policy = make_policy({"prompts": ["p"], "score": "sigmoid"})
    head = random_head(policy, np.random.default_rng(6), 100.0, bias)
    assert CompiledPolicy.build(policy, head).score(images(np.random.default_rng(7), 3)).score == pytest.approx(expected)


# --- OpenAI's ViT-B/32, as others have run it ------------------------------------------------------------------------------

NAMES = [
    *("cat", "dog", "horse", "cow", "sheep", "bird", "bear", "elephant", "giraffe", "zebra"),
    *("knife", "cigarette", "wine_bottle", "person", "street_sign"),
]


@pytest.fixture(scope="module")
def published():
    with np.load(DATA / "clip-b32" / "text_embeddings.npz") as stored:
        texts = {f"a {name}": vector for name, vector in zip(stored["names"].tolist(), stored["embeddings"], strict=True)}
    with np.load(DATA / "clip-b32" / "image_embeddings.npz") as stored:
        vectors = {name: stored[name] for name in stored.files}
    return TextHead(texts, 100.0, None), vectors


def rules_for(names, kind):
    return [
        {"id": name, "prompts": [name], "contrast": [n for n in names if n != name], "score": kind, "review": 0.2}
        for name in names
    ]


@needs_data
@pytest.mark.parametrize(
    ("photo", "name", "cosine"), [("123_456", "cat", 0.256), ("456_123", "cat", 0.250), ("389_535", "street_sign", 0.256)]
)
def test_published_embeddings_are_recognised(published, photo, name, cosine):
    head, vectors = published
    policy = make_policy(*rules_for(NAMES, "similarity"), contrast=[], templates=["a {}"])
    found = CompiledPolicy.build(policy, head).score(vectors[photo][None]).score[0]
    assert NAMES[found.argmax()] == name
    assert found.max() == pytest.approx(cosine, abs=0.0015)


@needs_data
def test_contrast_over_all_classes_adds_up_to_one(published):
    head, vectors = published
    policy = make_policy(*rules_for(NAMES, "contrast"), contrast=[], templates=["a {}"])
    found = CompiledPolicy.build(policy, head).score(np.stack(list(vectors.values()))).score
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    cats = [list(vectors).index(photo) for photo in ("123_456", "456_123")]
    assert (found[cats, NAMES.index("cat")] > 0.8).all()

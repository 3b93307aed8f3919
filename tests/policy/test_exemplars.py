"""The score of exemplars: its range, what moves it, and what the nearest part of a background does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moderation.policy.assets import Assets
from moderation.policy.compiled import CompiledPolicy, TextHead
from moderation.policy.exemplar_linting import lint_exemplars
from moderation.policy.exemplars import Exemplar, Exemplars, nearness
from moderation.policy.schema import Policy

NONE = np.empty((0, 1))


def column(*cosines: float) -> np.ndarray:
    return np.array(cosines, float)[:, None]


def cosines(least: int) -> st.SearchStrategy[np.ndarray]:
    return st.integers(least, 120).flatmap(lambda count: arrays(np.float64, (count, 3), elements=st.floats(-1, 1)))


@given(like=cosines(1), unlike=cosines(0), background=cosines(1))
def test_scores_lie_between_0_and_1_and_the_order_of_exemplars_does_not_matter(
    like: np.ndarray, unlike: np.ndarray, background: np.ndarray
) -> None:
    found = nearness(like, unlike, background)
    assert found.shape == (3,)
    assert ((found >= 0) & (found <= 1)).all()
    assert nearness(like[::-1], unlike[::-1], background[::-1]) == pytest.approx(found, abs=1e-12)


@given(like=cosines(1), more=cosines(1), unlike=cosines(1), background=cosines(0))
def test_further_exemplars_never_lower_a_score_and_further_unlike_ones_never_raise_it(
    like: np.ndarray, more: np.ndarray, unlike: np.ndarray, background: np.ndarray
) -> None:
    found = nearness(like, unlike, background)
    assert (nearness(np.concatenate([like, more]), unlike, background) >= found - 1e-12).all()
    assert (nearness(like, np.concatenate([unlike, more]), background) <= found + 1e-12).all()


def test_a_half_means_that_both_sides_weigh_the_same() -> None:
    assert nearness(column(0.7), column(0.7), NONE)[0] == pytest.approx(0.5)
    assert nearness(column(0.7), NONE, column(0.7))[0] == pytest.approx(0.5)
    assert nearness(column(0.7, 0.7), column(0.7), NONE)[0] == pytest.approx(2 / 3)
    assert nearness(column(0.9), column(0.7), NONE)[0] == pytest.approx(1 / (1 + np.exp(-4)))
    assert nearness(column(-1.0), column(1.0), NONE)[0] < 1e-16


def test_the_nearest_ordinary_images_are_left_out_of_a_large_background() -> None:
    ordinary = [0.2] * 98
    clean = nearness(column(0.8), NONE, column(*ordinary))[0]
    assert nearness(column(0.8), NONE, column(*ordinary, 0.99, 0.98))[0] == pytest.approx(clean)
    assert nearness(column(0.8), NONE, column(*ordinary, 0.99, 0.98, 0.97))[0] < 0.05
    assert nearness(column(0.8), NONE, column(*ordinary[:40], 0.99))[0] < 0.05  # too small for that


def exemplar(name: str) -> Exemplar:
    return Exemplar(name, name * 64)


def policy(like: str, unlike: str = "", background: str = "") -> Policy:
    plain = {
        "policy": "p",
        "model": {"name": "demo"},
        "background": list(background) or ["z"],
        "rules": [{"id": "r", "score": "examples", "like": list(like), "unlike": list(unlike), "review": 0.5}],
    }
    own = Exemplars(tuple(map(exemplar, like)), tuple(map(exemplar, unlike)))
    return Policy.model_validate(plain).with_assets(Assets(exemplars={"r": own}, background=tuple(map(exemplar, background))))


def unit(*angles: float) -> np.ndarray:
    """Unit vectors [F, 2] at angles in degrees."""
    return np.array([(np.cos(np.radians(a)), np.sin(np.radians(a))) for a in angles]).astype(np.float16)


VECTORS = {name * 64: unit(angle) for name, angle in zip("abcdef", (0, 40, 90, 130, 180, 41), strict=True)}


def test_the_evidence_is_the_nearest_exemplar_and_the_nearest_other() -> None:
    compiled = CompiledPolicy.build(policy("ba", "c", "de"), TextHead({}, 100.0, None, VECTORS))
    found = compiled.score(unit(10, 35, 85))
    assert [compiled.evidence[0][i] for i in found.top_prompt[:, 0]] == ["a", "b", "b"]
    assert [compiled.liked[0][i][0] for i in found.top_prompt[:, 0]] == ["a", "b", "b"]
    assert [(one.name, one.sha256) for one in compiled.others[0]] == [(name, name * 64) for name in "cde"]
    assert found.similarity[0, 0] == pytest.approx(np.cos(np.radians(10)), abs=1e-3)
    assert (found.score[:2, 0] > 0.99).all()
    assert found.score[2, 0] < 0.01
    assert (compiled.scores(unit(10, 35, 85)) == found.score).all()


def test_an_image_with_several_frames_is_as_near_as_its_nearest_one() -> None:
    vectors = {**VECTORS, "a" * 64: unit(180, 80, 0)}
    compiled = CompiledPolicy.build(policy("a", "c"), TextHead({}, 100.0, None, vectors))
    assert compiled.evidence[0] == ("a", "a", "a")
    assert compiled.score(unit(0)).similarity[0, 0] == pytest.approx(1.0, abs=1e-3)


def test_one_image_of_several_rules_is_called_what_each_calls_it() -> None:
    one = policy("a", "b")
    rules = (one.rules[0], one.rules[0].model_copy(update={"id": "s"}))
    renamed = Exemplar("other", "a" * 64)
    assets = Assets(exemplars={"r": one.assets.exemplars["r"], "s": Exemplars((renamed,), (exemplar("c"),))})
    both = one.model_copy(update={"rules": rules}).with_assets(assets)
    compiled = CompiledPolicy.build(both, TextHead({}, 100.0, None, VECTORS))
    assert compiled.evidence == (("a",), ("other",))


def test_doubtful_exemplars_are_reported() -> None:
    found = lint_exemplars(policy("abf", "c"), VECTORS)
    assert [(odd.location, odd.message.split(" (")[0]) for odd in found] == [
        (("rules", 0, "like", 2), "'f' shows the same to the model as 'b'"),
    ]
    found = lint_exemplars(policy("ae", "b"), VECTORS)
    assert [odd.location for odd in found] == [("rules", 0, "like", 0), ("rules", 0, "like", 1)]
    assert not lint_exemplars(policy("a", "b"), VECTORS)
    assert lint_exemplars(policy("b", "f"), VECTORS)[0].message.startswith("'b' is near to 'f'")

"""Heads on held-out renderings of the demo's pictures: calibrated, and better than the prompts or honest about it."""

from collections.abc import Callable

import numpy as np
import pytest
from learning_world import images_of, labels_of
from needs import needs_emoji_font
from numpy.typing import NDArray

from moderation import OpenClipEncoder
from moderation.demo import POLICY_FILE
from moderation.policy.compiled import CompiledPolicy
from moderation.policy_files.loading import load_policy
from moderation.scoring.image_scorer import compiled_by
from moderation.studies.learning.calibration import calibration_error
from moderation.studies.learning.comparison import compare, placements
from moderation.studies.learning.learn import fit

pytestmark = needs_emoji_font()
GLYPHS = {"alcohol": "🍺🍻🍷🍸🍹🍾🥂🥃🍶", "drinks": "🍺🍻🍷🍸🍹🍾🥂🥃🍶☕🍵🥛🥤🧃🧋🧉"}
PREVALENCE = 0.25
Draw = Callable[[str, int, int, int], tuple[NDArray[np.bool_], NDArray[np.float16]]]


@pytest.fixture(scope="module")
def encoder() -> OpenClipEncoder:
    return OpenClipEncoder("demo", device="cpu")


@pytest.fixture(scope="module")
def compiled(encoder: OpenClipEncoder) -> CompiledPolicy:
    return compiled_by(encoder, load_policy(POLICY_FILE))


@pytest.fixture(scope="module")
def draw(encoder: OpenClipEncoder) -> Draw:
    """Embeddings of renderings: of so many that show what a rule looks for, and so many others. Seeds share no picture."""
    from moderation.demo.training.concepts import load_concepts
    from moderation.demo.training.render import draw_glyph, find_font, render, rng_for

    font, concepts = find_font(), load_concepts()

    def drawn(rule: str, positives: int, negatives: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        rng = np.random.default_rng(seed)
        of_kind = [[n for n, one in enumerate(concepts) if (one.glyph in GLYPHS[rule]) == kind] for kind in (True, False)]
        chosen = np.concatenate([rng.choice(kind, count) for kind, count in zip(of_kind, (positives, negatives), strict=True)])
        pixels = []
        for at, number in enumerate(chosen.tolist()):
            glyph = draw_glyph(concepts[number].glyph, font)
            assert glyph is not None
            own = rng_for("evaluate", number, 10_000 + seed, at)
            pixels.append(encoder.preprocessing(render(glyph, own, (128, 128))))
        return np.repeat([True, False], [positives, negatives]), encoder.encode_images(np.stack(pixels)).astype(np.float16)

    return drawn


def error_of_probabilities(draw: Draw, compiled: CompiledPolicy, held_out: int) -> float:
    """The expected calibration error of a head from 50 true and 250 false labels, at a prevalence of 25 %."""
    truth, vectors = draw("alcohol", 50, 250, 0)
    column = [rule.id for rule in compiled.rules].index("alcohol")
    found = fit(images_of(vectors), labels_of(truth, PREVALENCE), compiled.direction(column))
    unseen_truth, unseen = draw("alcohol", held_out // 4, held_out - held_out // 4, 1)
    probabilities = found.calibration(found.line(unseen.astype(np.float64)))
    return calibration_error(probabilities, unseen_truth, np.ones(len(unseen_truth)))


@pytest.mark.slow
def test_probabilities_are_calibrated_on_5000_held_out_renderings(draw, compiled):
    assert error_of_probabilities(draw, compiled, 5000) <= 0.03


def test_probabilities_are_calibrated_on_held_out_renderings(draw, compiled):
    assert error_of_probabilities(draw, compiled, 400) <= 0.05  # more, as there are few pictures in a bin


@pytest.mark.parametrize("rule", GLYPHS)
def test_a_head_from_50_labels_is_better_than_the_prompts_or_says_that_it_is_not(draw, compiled, rule):
    """The prompts of `alcohol` leave nothing to be learned; those of `drinks` name some drinks only."""
    prompts = [one.id for one in compiled.rules].index("alcohol")
    column = [one.id for one in compiled.rules].index(rule)
    truth, vectors = draw(rule, 25, 25, 2)
    sample = labels_of(truth, PREVALENCE)
    found = fit(images_of(vectors), sample, compiled.direction(column))
    now = compiled.scores(vectors)[:, prompts].astype(np.float64)
    told = compare(sample, found.logits, now)
    unseen_truth, unseen = draw(rule, 80, 220, 3)
    even = np.ones(300)
    head = placements(found.line(unseen.astype(np.float64)), unseen_truth, even).auc
    by_prompts = placements(compiled.scores(unseen)[:, prompts].astype(np.float64), unseen_truth, even).auc
    assert told.gain.low <= head - by_prompts <= told.gain.high
    if told.verdict == "better":
        assert head > by_prompts
    if rule == "alcohol":
        assert told.verdict != "better"

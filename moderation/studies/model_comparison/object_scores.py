"""One model's scores of some objects, some hundreds at a time: nothing else of them is kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.common.progress import Progress, tell
from moderation.images.limits import ImageLimits
from moderation.model.encoder import Encoder, Precision
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.model_choice import ModelChoice
from moderation.policy.schema import Policy
from moderation.records import ObjectRef
from moderation.results.showing import may_show
from moderation.scoring.image_scorer import ImageScorer, compiled_by
from moderation.scoring.options import ScorerOptions
from moderation.sources import ObjectReader
from moderation.studies.model_comparison.comparison_result import Side

BATCH = 256
"""Objects scored at a time."""


@dataclass(frozen=True)
class ModelScores:
    """Scores of N objects under R rules by one model."""

    side: Side
    score: NDArray[np.float32]
    """[N, R] NaN where an object could not be scored"""
    frame: NDArray[np.int32]
    """[N, R] the frame with that score, counted from 0"""
    errors: dict[str, str]
    """error codes by URI"""
    shown: NDArray[np.bool_]
    """[N] whether they may be shown: they are on no restricted hash list"""


@dataclass(frozen=True)
class LoadedModel:
    """A model with the policy that it is to score by."""

    encoder: Encoder
    compiled: CompiledPolicy
    precision: Precision = "auto"
    """as it was asked for"""


def load_model(choice: ModelChoice, policy: Policy, precision: Precision = "auto") -> LoadedModel:
    """Load a model and embed the prompts of a policy, whose own `model` does not count.

    It runs on a GPU if there is one, but in int8, which is for CPUs.

    Raises:
        ModelError: the model cannot be loaded or run in that precision, or a prompt is too long for it.
        PolicyError: a rule asks for a score that the model does not have.
    """
    from moderation.model.open_clip_encoder import OpenClipEncoder  # noqa: PLC0415 - torch is loaded only where it is needed

    tell(Progress(f"loading {choice.label}"))
    encoder = OpenClipEncoder.of(choice, device="cpu" if precision == "int8" else "auto", precision=precision)
    compared = policy.model_copy(update={"model": choice})
    return LoadedModel(encoder, compiled_by(encoder, compared), precision)


def score_objects(
    model: LoadedModel,
    objects: Sequence[ObjectRef],
    reader: ObjectReader,
    limits: ImageLimits,
    done: Callable[[int, int], None],
) -> ModelScores:
    """Score objects.

    Args:
        model: what scores, and by which policy.
        objects: what to score.
        reader: how they are read.
        limits: what is too much of an image.
        done: called with the numbers of objects and of errors so far.
    """
    encoder, width = model.encoder, len(model.compiled.rules)
    score = np.full((len(objects), width), np.nan, np.float32)
    frame = np.zeros((len(objects), width), np.int32)
    shown: NDArray[np.bool_] = np.ones(len(objects), np.bool_)
    place = {item.uri: number for number, item in enumerate(objects)}
    errors: dict[str, str] = {}
    with ImageScorer(encoder, model.compiled, ScorerOptions(limits=limits), read=reader.read, look_up=reader.look_up) as scorer:
        began = time.monotonic()
        for start in range(0, len(objects), BATCH):
            rows = scorer.score(objects[start : start + BATCH])
            at = [place[uri] for uri in rows.scores["uri"].to_pylist()[::width]]  # images outermost
            score[at] = rows.scores["score"].to_numpy().reshape(-1, width)
            frame[at] = rows.scores["frame"].to_numpy().reshape(-1, width)
            found = rows.decisions.select(["uri", "error_code"]).to_pylist()
            shown[[place[row["uri"]] for row in found]] = may_show(rows.decisions)
            errors |= {row["uri"]: row["error_code"] for row in found if row["error_code"] is not None}
            done(min(start + BATCH, len(objects)), len(errors))
        seconds = time.monotonic() - began
    name = encoder.name if model.precision == "auto" else f"{encoder.name} in {model.precision}"
    side = Side(name, encoder.fingerprint, encoder.dim, encoder.preprocessing.size, seconds)
    return ModelScores(side, score, frame, errors, shown)

"""Two models, one policy, the same images: sampled, scored by each, compared."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from moderation.common.progress import Progress, tell
from moderation.errors import SettingsError, SourceError
from moderation.images.limits import ImageLimits
from moderation.model.encoder import Precision
from moderation.policy.model_choice import ModelChoice
from moderation.policy.schema import Policy
from moderation.sources import open_sources, reader_of
from moderation.studies.model_comparison.choice import check_choice, without_heads
from moderation.studies.model_comparison.comparison_result import Hold, ModelComparison
from moderation.studies.model_comparison.comparison_text import about
from moderation.studies.model_comparison.object_sample import SampledObjects, sample_objects
from moderation.studies.model_comparison.object_scores import ModelScores, load_model, score_objects
from moderation.studies.model_comparison.refitting import Labels
from moderation.studies.model_comparison.rule_comparison import Scored, compare_rules

CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Truth:
    """What a person said about one image under one rule."""

    applies: bool
    weight: float = 1.0
    """how many images it stands for"""


Truths = Mapping[str, Mapping[str, Truth]]
"""By URI, by rule id"""


def compare_models(
    policy: Policy,
    a: ModelChoice,
    b: ModelChoice,
    locations: Sequence[str],
    *,
    sample: int = 500,
    seed: int = 0,
    truths: Truths | None = None,
    limits: ImageLimits | None = None,
    precisions: tuple[Precision, Precision] = ("auto", "auto"),
) -> ModelComparison:
    """Score a sample of images with two models and say what moving from A to B would change.

    Args:
        policy: what is looked for; its own `model` does not count. Of different models, rules with heads are left out.
        a: the model that the policy's thresholds are for.
        b: another one.
        locations: folders, prefixes, manifests or inventories, as a run takes them.
        sample: images to draw.
        seed: which images are drawn.
        truths: labels. With them thresholds for B hold the precision instead of the flag rate, and labelled images are scored
            beside the sample.
        limits: what is too much of an image.
        precisions: of A and of B, which may be the same model in two precisions.

    Raises:
        ModelError, PolicyError: a model is not available, or does not fit the policy.
        SourceError: the images cannot be listed, or none of them can be scored.
        SettingsError: no labelled image is among them.
    """
    limits = limits or ImageLimits()
    named = f"{policy.policy} {policy.version} ({policy.hash})"
    if a != b:
        policy, _ = without_heads(policy)
    for choice in (a, b):
        check_choice(choice, policy)
    sources = open_sources(locations, CONNECTIONS)
    reader = reader_of(sources, CONNECTIONS)
    tell(Progress("listing"))
    found = sample_objects(sources, sample, seed, frozenset(truths or ()))
    if not found.objects:
        raise SourceError(f"{' and '.join(source.uri for source in sources)} has no object")
    if truths is not None and not any(item.uri in truths for item in found.objects):
        example = next(iter(truths), "")
        raise SettingsError(
            f"none of the {len(truths):,} labelled images, such as {example!r}, is among the {found.listed:,} objects of the "
            "sources: labels must use the URIs that appear in results"
        )

    # Both are loaded first, so that an error in B is reported at once.
    models = [load_model(choice, policy, precision) for choice, precision in zip((a, b), precisions, strict=True)]
    by_a, by_b = (
        score_objects(model, found.objects, reader, limits, _teller(2 * len(found.objects), number * len(found.objects)))
        for number, model in enumerate(models)
    )
    whole = _compared(policy, found, (by_a, by_b), truths, tuple(source.uri for source in sources), (sample, seed))
    return replace(whole, policy=named)


def _compared(
    policy: Policy,
    found: SampledObjects,
    by: tuple[ModelScores, ModelScores],
    truths: Truths | None,
    sources: tuple[str, ...],
    asked: tuple[int, int],
) -> ModelComparison:
    a, b = by
    errors = {**b.errors, **a.errors}
    readable = np.array([item.uri not in errors for item in found.objects], np.bool_)
    counted = readable & found.in_sample
    codes = Counter(
        errors[item.uri] for item, taken in zip(found.objects, found.in_sample, strict=True) if taken and item.uri in errors
    )
    if not counted.any():
        reasons = ", ".join(f"{code} {count:,}" for code, count in codes.most_common())
        raise SourceError(f"none of the {int(found.in_sample.sum()):,} sampled objects can be scored: {reasons}")
    scored = Scored(
        objects=[item for item, good in zip(found.objects, readable, strict=True) if good],
        a=a.score[readable],
        b=b.score[readable],
        frame=a.frame[readable],
        in_sample=found.in_sample[readable],
        shown=a.shown[readable] & b.shown[readable],
    )
    labels = None if truths is None else _labels(policy, scored, truths)
    compared = compare_rules(policy, scored, labels)
    hold: Hold = "flag-rate" if truths is None else "precision"
    whole = ModelComparison(
        policy=f"{policy.policy} {policy.version} ({policy.hash})",
        a=a.side,
        b=b.side,
        hold=hold,
        sources=sources,
        seed=asked[1],
        asked=asked[0],
        listed=found.listed,
        taken=int(found.in_sample.sum()),
        images=int(counted.sum()),
        unreadable=dict(codes.most_common()),
        labelled=0 if truths is None else sum(item.uri in truths for item in scored.objects),
        rules=compared.rules,
        actions=compared.actions,
        actions_fitted=compared.actions_fitted,
        summary=(),
    )
    return replace(whole, summary=about(whole))


def _labels(policy: Policy, scored: Scored, truths: Truths) -> dict[str, Labels]:
    found = {}
    for rule in policy.active_rules:
        rows = [i for i, item in enumerate(scored.objects) if rule.id in truths.get(item.uri, {})]
        said = [truths[scored.objects[i].uri][rule.id] for i in rows]
        found[rule.id] = Labels(
            np.array(rows, np.int64),
            np.array([one.applies for one in said], np.bool_),
            np.array([one.weight for one in said], np.float64),
        )
    return found


def _teller(planned: int, before: int) -> Callable[[int, int], None]:
    return lambda images, errors: tell(Progress("scoring", planned=planned, done=before + images, errors=errors))

"""What is odd in the exemplars of a policy, by their embeddings. Pure."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moderation.policy.exemplars import Exemplar, Exemplars
from moderation.policy.linting import Oddity
from moderation.policy.schema import ImageSource, Mode, Policy, Rule
from moderation.policy.yaml_source import Location

SAME = 0.99
"""Two images whose embeddings have this cosine or more are seen as one picture by the model."""
_SHOWN = 5
"""Oddities of one kind shown of a rule."""

Vectors = Mapping[str, NDArray[np.float16]]
"""Embeddings [F, D] of exemplars' frames by their SHA-256."""


def lint_exemplars(policy: Policy, vectors: Vectors) -> list[Oddity]:
    """Liked exemplars that are as near to unlike ones as to each other, and exemplars that show the same."""
    found: list[Oddity] = []
    for at, rule in enumerate(policy.rules):
        own = policy.assets.exemplars.get(rule.id)
        if own is not None and rule.mode is not Mode.OFF:
            found += list(_doubtful(rule, own, vectors, ("rules", at)))[:_SHOWN]
            found += list(_repeated(rule.like, own.like, vectors, ("rules", at, "like")))[:_SHOWN]
            found += list(_repeated(rule.unlike, own.unlike, vectors, ("rules", at, "unlike")))[:_SHOWN]
    return found


def _doubtful(rule: Rule, own: Exemplars, vectors: Vectors, place: Location) -> Iterator[Oddity]:
    if not own.unlike:
        return
    apart = _cosines(own.like, own.unlike, vectors)
    together = _cosines(own.like, own.like, vectors)
    np.fill_diagonal(together, -np.inf)
    for i, one in enumerate(own.like):
        other = int(apart[i].argmax())
        cosine, name = apart[i, other], own.unlike[other].name
        nearest = together[i].max()
        if cosine < SAME and cosine < nearest:
            continue
        message = f"{one.name!r} is near to {name!r} of `unlike` (cosine {cosine:.3f})"
        if np.isfinite(nearest):
            message += f", and to no other exemplar nearer (cosine {nearest:.3f})"
        elif cosine < SAME:
            continue
        hint = "the model hardly tells them apart: is each in the right list? more exemplars like them may help"
        yield Oddity(_place(rule.like, one, (*place, "like")), message, hint)


def _repeated(
    sources: Sequence[ImageSource], exemplars: Sequence[Exemplar], vectors: Vectors, place: Location
) -> Iterator[Oddity]:
    cosines = _cosines(exemplars, exemplars, vectors)
    for later in range(1, len(exemplars)):
        first = int(cosines[later, :later].argmax())
        if cosines[later, first] >= SAME:
            message = (
                f"{exemplars[later].name!r} shows the same to the model as {exemplars[first].name!r} "
                f"(cosine {cosines[later, first]:.3f})"
            )
            yield Oddity(_place(sources, exemplars[later], place), message, "another picture would add more")


def _cosines(ones: Sequence[Exemplar], others: Sequence[Exemplar], vectors: Vectors) -> NDArray[np.float64]:
    """[N, M], of the nearest frames."""
    found = np.empty((len(ones), len(others)))
    starts = np.cumsum([0, *(len(vectors[one.sha256]) for one in others)])[:-1]
    if len(ones) and len(others):
        columns = np.concatenate([vectors[one.sha256] for one in others]).astype(np.float64)
        for i, one in enumerate(ones):
            by_frame = (columns @ vectors[one.sha256].astype(np.float64).T).max(axis=1)
            found[i] = np.maximum.reduceat(by_frame, starts)
    return found


def _place(sources: Sequence[ImageSource], exemplar: Exemplar, key: Location) -> Location:
    return (*key, sources.index(exemplar.name)) if exemplar.name in sources else key

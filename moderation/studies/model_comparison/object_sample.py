"""A sample of what sources name: those objects whose seeded hashes are lowest, so that the order of a listing does not matter.

Memory holds the sample and one page of the listing.
"""

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.records import ObjectRef
from moderation.sources import Source


@dataclass(frozen=True)
class SampledObjects:
    """Objects to score, by URI."""

    objects: tuple[ObjectRef, ...]
    """the sample, and the wanted ones"""
    in_sample: NDArray[np.bool_]
    """[N] which of them the sample holds"""
    listed: int
    """objects that the sources name, each time they do"""


def sample_objects(sources: Sequence[Source], count: int, seed: int, wanted: AbstractSet[str] = frozenset()) -> SampledObjects:
    """Draw `count` objects without repetition, each with the same chance, and take those `wanted` by their URIs as well.

    The same objects and seed give the same sample, in whatever order they are listed, and adding objects to a source replaces
    few of a sample.

    Raises:
        SourceError: a listing broke off.
    """
    lowest: list[tuple[int, ObjectRef]] = []  # by the negated hash: the highest of the sample comes first
    kept: set[str] = set()
    extra: dict[str, ObjectRef] = {}
    listed = 0
    salt = f"{seed}\0".encode()
    for item in _listed(sources):
        listed += 1
        if item.uri in wanted:
            extra.setdefault(item.uri, item)
        rank = -int.from_bytes(hashlib.blake2b(salt + item.uri.encode(), digest_size=8).digest())
        if len(lowest) == count and rank <= lowest[0][0]:
            continue
        if item.uri in kept:  # manifests may name an object twice
            continue
        kept.add(item.uri)
        if len(lowest) < count:
            heapq.heappush(lowest, (rank, item))
        else:
            kept.discard(heapq.heapreplace(lowest, (rank, item))[1].uri)
    found = {item.uri: item for _, item in lowest}
    objects = tuple(item for _, item in sorted({**extra, **found}.items()))
    return SampledObjects(objects, np.array([item.uri in found for item in objects], np.bool_), listed)


def _listed(sources: Sequence[Source]) -> Iterator[ObjectRef]:
    for source in sources:
        for page in source.list():
            yield from page

"""Drawing ordinary images from what published runs store: allowed, not near to what a rule looks for, and spread."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.errors import PolicyError, SettingsError, StorageError
from moderation.policy.schema import Policy
from moderation.results.archive import Archive, ModelRuns
from moderation.results.stored_exemplars import keep_exemplars
from moderation.results.stored_images import StoredImages
from moderation.studies.sampling.lots import lots

LEAST, MOST = 8, 2000
"""Images that may be asked for."""
CANDIDATES = 16
"""Images drawn by lot for each that is chosen."""
NEAREST = 0.02
"""Share of the candidates that is left out: those nearest to a liked exemplar, of which some may show what is looked for."""
SAME = 0.995
"""Candidates with this cosine to one that was chosen are the same picture."""
_COLUMNS = ("sha256", "action", "flags", "shadow_flags")

Liked = Mapping[str, NDArray[np.float16]]
"""Embeddings [F, D] of liked exemplars by their SHA-256."""


@dataclass(frozen=True, slots=True)
class OrdinaryImage:
    """An image that was drawn."""

    uri: str
    sha256: str
    vectors: NDArray[np.float16]
    """[1, D]"""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What drawing found."""

    images: tuple[OrdinaryImage, ...]
    """by URI"""
    archive: ModelRuns
    scored: int
    """images with embeddings"""
    ordinary: int
    """of these, allowed and flagged by no rule, with one frame"""
    near: int
    """candidates left out because they are near to a liked exemplar"""


def draw_background(
    archive: Archive, policy: Policy, liked: Liked, count: int, seed: int = 0, threads: int | None = None
) -> Drawn:
    """Draw images that no rule looks for. The same seed gives the same images.

    Images that are allowed, that no live or shadow rule flags, and that are no exemplars, are candidates by lot. The nearest
    to liked exemplars are left out. The others are chosen so that they spread: each next one with a probability proportional
    to its squared distance from the nearest chosen one, as k-means++ chooses (Arthur and Vassilvitskii 2007).

    Args:
        archive: where the embeddings are.
        policy: whose exemplars are not drawn.
        liked: what its rules look for.
        count: how many images; all, if there are fewer.
        seed: another one draws others.
        threads: how many read.

    Raises:
        SettingsError: a number that makes no sense, or there are too few ordinary images.
        PolicyError: no rule compares exemplars.
        OutputError: a file cannot be read.
    """
    if not LEAST <= count <= MOST:
        raise SettingsError(f"--n {count}: give {LEAST} to {MOST:,}")
    if not policy.assets.exemplars:
        raise PolicyError(f"no rule of the policy {policy.policy} has `score: examples`: a background is for these")
    taken = set(policy.assets.images)

    def work(images: StoredImages) -> tuple[_Candidates, int]:
        return _candidates(images, taken, seed).lowest(CANDIDATES * count), len(images.scored)

    found, scored, ordinary = _Candidates.none(), 0, 0
    for one, seen in archive.each(_COLUMNS, work, threads):
        scored, ordinary = scored + seen, ordinary + one.ordinary
        found = found.join(one).lowest(CANDIDATES * count)
    if len(found) < LEAST:
        raise SettingsError(
            f"of {scored:,} images under {archive.output.uri} only {len(found)} are allowed, have one frame and are flagged by "
            f"no rule; a background needs {LEAST}"
        )
    vectors = found.vectors.astype(np.float64)
    keys = np.concatenate(list(liked.values())).astype(np.float64)
    nearness = (vectors @ keys.T).max(axis=1)
    far = np.ones(len(found), bool)
    left_out = np.argsort(-nearness, kind="stable")[: int(np.ceil(NEAREST * len(found)))]
    far[left_out] = False
    left = np.flatnonzero(far)
    chosen = left[spread(vectors[left], count, np.random.default_rng(seed))]
    images = [OrdinaryImage(found.uris[i], found.digests[i], found.vectors[[i]]) for i in chosen]
    ordered = tuple(sorted(images, key=lambda image: image.uri))
    return Drawn(ordered, archive.used, scored, ordinary, len(left_out))


def keep_embeddings(archive: Archive, drawn: Drawn) -> bool:
    """Store the embeddings of drawn images as those of exemplars: no run reads the images. False where that is refused."""
    try:
        keep_exemplars(archive.output, archive.fingerprint, {image.sha256: image.vectors for image in drawn.images})
    except StorageError:
        return False
    return True


def spread(vectors: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Indexes of up to `count` of N unit vectors [N, D] that lie apart; fewer, where the others are the same pictures."""
    chosen = [0]
    nearest = vectors @ vectors[0]
    while len(chosen) < count:
        weight = np.where(nearest < SAME, np.maximum(0.0, 1.0 - nearest), 0.0)
        total = np.cumsum(weight)
        if not total[-1]:
            break
        at = int(np.searchsorted(total, random.random() * total[-1], side="right"))
        chosen.append(min(at, len(vectors) - 1))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    return np.array(chosen, np.int64)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Ordinary images in the order of their lots, each content once."""

    uris: list[str]
    digests: list[str]
    lots: NDArray[np.uint64]
    vectors: NDArray[np.float16]
    ordinary: int

    @classmethod
    def none(cls) -> "_Candidates":
        return cls([], [], np.empty(0, np.uint64), np.empty((0, 0), np.float16), 0)

    def __len__(self) -> int:
        return len(self.uris)

    def join(self, other: "_Candidates") -> "_Candidates":
        vectors = np.concatenate([one.vectors for one in (self, other) if len(one)] or [self.vectors])
        found = np.concatenate([self.lots, other.lots])
        return _Candidates(self.uris + other.uris, self.digests + other.digests, found, vectors, self.ordinary + other.ordinary)

    def lowest(self, count: int) -> "_Candidates":
        first: dict[str, int] = {}
        for at in np.lexsort((np.array(self.uris), self.lots)) if len(self) else ():
            first.setdefault(self.digests[at], int(at))
        at = list(first.values())[:count]
        return _Candidates(
            [self.uris[i] for i in at], [self.digests[i] for i in at], self.lots[at], self.vectors[at], self.ordinary
        )


def _candidates(images: StoredImages, taken: set[str], seed: int) -> _Candidates:
    rows = images.scored
    ordinary = pc.and_(
        pc.equal(rows["action"], "allow"),
        pc.and_(pc.equal(_count(rows["flags"]), 0), pc.equal(_count(rows["shadow_flags"]), 0)),
    )
    known = np.asarray(pc.fill_null(pc.and_(ordinary, pc.is_valid(rows["sha256"])), fill_value=False))
    at = np.flatnonzero(known & (np.diff(images.starts) == 1))
    chosen = rows.take(pa.array(at))
    uris, digests = chosen["uri"].to_pylist(), chosen["sha256"].to_pylist()
    keep = [i for i, digest in enumerate(digests) if digest not in taken]
    kept = [uris[i] for i in keep]
    return _Candidates(
        kept, [digests[i] for i in keep], lots(kept, seed), images.vectors[images.starts[:-1][at][keep]], len(keep)
    )


def _count(flags: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.list_value_length(flags), 0)

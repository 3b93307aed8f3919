"""What the tests of learning share: synthetic embeddings whose truth is known, and labelled images made of them."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.studies.learning.labelled_images import LabelledImages
from moderation.studies.tuning.samples import Sample, at_prevalence

Numbers = NDArray[np.float64]


def images_of(
    vectors: NDArray[np.float16], digests: list[str] | None = None, frames: list[int] | None = None
) -> LabelledImages:
    """Labelled images with these embeddings [F, D]; every row is an image of its own, or has as many frames as are given."""
    counts = frames or [1] * len(vectors)
    names = [f"s3://shop/{number:06}.jpg" for number in range(len(counts))]
    return LabelledImages(
        uris=tuple(names),
        vectors=vectors,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        decisions=pa.table(
            {
                "uri": names,
                "sha256": digests or [hashlib.sha256(name.encode()).hexdigest() for name in names],
                "pdq": pa.nulls(len(names), pa.string()),
                "pdq_quality": pa.nulls(len(names), pa.int32()),
            }
        ),
    )


def labels_of(truth: NDArray[np.bool_], prevalence: float) -> Sample:
    """Labels in the order of their images."""
    return at_prevalence(-np.arange(len(truth), dtype=np.float32), truth, prevalence)


@dataclass(frozen=True)
class EmbeddingWorld:
    """Unit embeddings in a cone, as CLIP's are. Positives lie `apart` further along a direction, which texts know in part."""

    apart: float
    known: float
    """cosine between that direction and the one of the texts"""
    dim: int = 24

    @property
    def texts(self) -> Numbers:
        """[D] the direction of the texts."""
        found = np.zeros(self.dim)
        found[0], found[1] = self.known, np.sqrt(1 - self.known**2)
        return found

    def vectors(self, rng: np.random.Generator, truth: NDArray[np.bool_]) -> NDArray[np.float16]:
        """[N, D]"""
        found = rng.normal(0, 1, (len(truth), self.dim))
        found[:, 0] += self.apart * truth
        found[:, -1] += 6.0
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)

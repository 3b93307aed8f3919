"""Flagged images spread over the range of their scores, those that look alike as one. Pure.

The highest score comes first. The range from a rule's lowest threshold up is cut into bands of the same width: every band gives
one picture, then every band a second one, until there are enough; within a band the hash of the bytes draws. So what is kept of
two shards holds what would have been kept of both together.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.results import sketches
from moderation.results.example_images import Example, Pictures

BANDS = 11
"""So many and the highest score fill two rows of a page."""


class Looks:
    """The embeddings of a shard's images, by image and frame."""

    def __init__(self, embeddings: pa.Table, uris: pa.Array) -> None:
        """The rows of embeddings [F], and the URIs [N] of the images."""
        image = np.asarray(pc.fill_null(pc.index_in(embeddings["uri"], uris), -1), np.int64)
        key = _key(image, embeddings["frame"].to_numpy())
        self._order = np.argsort(key, kind="stable")
        self._key = key[self._order]
        self._vectors = embeddings["embedding"].combine_chunks()

    def sketches(self, images: NDArray[np.int64], frames: NDArray[np.integer]) -> NDArray[np.int8]:
        """The sketches [M, K] of frames [M] of images [M]; zeros for one that has no embedding."""
        wanted = _key(images, frames)
        place = np.minimum(np.searchsorted(self._key, wanted), max(len(self._key) - 1, 0))
        known = self._key[place] == wanted if len(self._key) else np.zeros(len(wanted), np.bool_)
        rows = self._vectors.take(pa.array(self._order[place[known]], pa.int64()))
        vectors = rows.flatten().to_numpy(zero_copy_only=False).reshape(-1, self._vectors.type.list_size)
        made = sketches.sketches(vectors)
        found = np.zeros((len(wanted), made.shape[1]), np.int8)
        found[known] = made
        return found


def draw(
    pictures: Pictures,
    images: NDArray[np.int64],
    score: NDArray[np.floating],
    limits: tuple[float, float],
    sketch: NDArray[np.int8],
    kept: int,
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Up to `kept` of M rows, in the order in which the bands give them.

    Args:
        pictures: the images.
        images: [M] the image of each row.
        score: [M] its score.
        limits: the lowest score that is flagged, and the highest that there may be.
        sketch: [M, K] what it looks like.
        kept: how many pictures are wanted.

    Returns:
        Pairs: an index into the rows, and which of them [M] it stands for, itself among them.
    """
    rank, likeness, band = pictures.rank[images], sketches.Likeness(sketch), _bands(score, *limits)
    left = np.ones(len(images), np.bool_)
    found: list[tuple[int, NDArray[np.bool_]]] = []
    given = Counter[int]()
    while len(found) < kept and left.any():
        if found:
            turn = min(np.unique(band[left]).tolist(), key=lambda b: (given[b], -b))
            among = np.flatnonzero(left & (band == turn))
            given[turn] += 1
        else:
            among = np.flatnonzero(score == score.max())
        first = int(among[rank[among].argmin()])
        same = (pictures.same_as(int(images[first]))[images] & left) | likeness.group(first, left)
        found.append((first, same))
        left &= ~same
    return found


def merged(examples: Sequence[Example], low: float, high: float, kept: int) -> tuple[Example, ...]:
    """Up to `kept` of images that were drawn in several shards; each counts those that it stands for."""
    if not examples:
        return ()
    columns = {
        "uri": pa.array([e.uri for e in examples], pa.string()),
        "sha256": pa.array([e.digest for e in examples], pa.string()),
        "pdq": pa.array([e.pdq for e in examples], pa.string()),
        "pdq_quality": pa.array([e.pdq_quality for e in examples], pa.int32()),
    }
    score, rows = np.array([e.score for e in examples]), np.arange(len(examples))
    sketch = sketches.decoded([e.sketch for e in examples])
    drawn = draw(Pictures(pa.table(columns)), rows, score, (low, high), sketch, kept)
    return tuple(
        examples[first]._replace(
            copies=sum(examples[i].copies for i in np.flatnonzero(same).tolist()),
            critical=any(examples[i].critical for i in np.flatnonzero(same).tolist()),
        )
        for first, same in drawn
    )


def _key(images: NDArray[np.int64], frames: NDArray[np.integer]) -> NDArray[np.int64]:
    return (images << 32) + frames.astype(np.int64)


def _bands(score: NDArray[np.floating], low: float, high: float) -> NDArray[np.int64]:
    """The band [N] of each score [N] between `low` and `high`; what is outside belongs to the outermost ones."""
    place = np.floor((score.astype(np.float64) - low) / max(high - low, 1e-9) * BANDS)
    return np.clip(place, 0, BANDS - 1).astype(np.int64)

"""The stored embeddings of labelled images."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.results.archive import Archive
from moderation.results.stored_images import StoredImages
from moderation.studies.tuning.scores import best_of_frames

Numbers = NDArray[np.float64]
_COLUMNS = ("sha256", "pdq", "pdq_quality")


@dataclass(frozen=True)
class LabelledImages:
    """N images with the embeddings of their F frames."""

    uris: tuple[str, ...]
    vectors: NDArray[np.float16]
    """[F, D] unit embeddings"""
    starts: NDArray[np.int64]
    """[N + 1] image i has the rows starts[i] to starts[i + 1] of `vectors`"""
    decisions: pa.Table
    """[N] with `uri`, `sha256`, `pdq` and `pdq_quality`"""
    unreadable: frozenset[str] = frozenset()
    """images that are known, but ended in an error"""

    def __len__(self) -> int:
        return len(self.uris)

    def take(self, rows: NDArray[np.int64]) -> "LabelledImages":
        """These images, in this order."""
        spans = [np.arange(self.starts[row], self.starts[row + 1]) for row in rows]
        counts = [len(span) for span in spans]
        return LabelledImages(
            uris=tuple(self.uris[row] for row in rows),
            vectors=self.vectors[np.concatenate(spans)],
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            decisions=self.decisions.take(pa.array(rows)),
            unreadable=self.unreadable,
        )

    def highest(self, by_frame: Numbers) -> Numbers:
        """The highest value [N] among an image's frames, of values [F]."""
        found: Numbers = np.maximum.reduceat(by_frame, self.starts[:-1])
        return found

    def scores(self, by_frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same for scores [F, R] of rules."""
        return best_of_frames(by_frame, self.starts)


def labelled_images(archive: Archive, uris: Collection[str]) -> LabelledImages:
    """Those of the images that an archive has, by URI. Memory grows with these only.

    Raises:
        OutputError: a file cannot be read.
    """
    wanted = pa.array(sorted(set(uris)), pa.string())

    def of_shard(stored: StoredImages) -> StoredImages:
        scored = np.asarray(pc.is_in(stored.scored["uri"], value_set=wanted), np.bool_)
        errors = np.asarray(pc.is_in(stored.errors["uri"], value_set=wanted), np.bool_)
        return stored.keep(scored, errors)

    parts = [part for part in archive.each(_COLUMNS, of_shard) if part.scored.num_rows or part.errors.num_rows]
    unreadable = frozenset(uri for part in parts for uri in part.errors["uri"].to_pylist())
    parts = [part for part in parts if part.scored.num_rows]
    if not parts:
        nothing = pa.table({name: pa.array([], pa.string()) for name in ("uri", *_COLUMNS)})
        return LabelledImages((), np.empty((0, 1), np.float16), np.zeros(1, np.int64), nothing, unreadable)
    decisions = pa.concat_tables([part.scored.select(["uri", *_COLUMNS]) for part in parts])
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    found = LabelledImages(
        uris=tuple(decisions["uri"].to_pylist()),
        vectors=np.concatenate([part.vectors for part in parts]),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        decisions=decisions,
        unreadable=unreadable,
    )
    return found.take(np.argsort(np.array(found.uris), kind="stable"))

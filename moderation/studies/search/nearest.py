"""The images whose stored embeddings are nearest to a query, each picture once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.common.float16_blocks import double_blocks
from moderation.errors import SettingsError
from moderation.policy.known_images import KnownImages
from moderation.results import showing
from moderation.results.archive import Archive, ModelRuns
from moderation.results.example_images import DIGEST, Example, Pictures, collapse
from moderation.results.stored_images import StoredImages
from moderation.scoring.judging import best_frames
from moderation.studies.search.queries import Queries

MOST = 1_000
"""Images found at most."""
_COLUMNS = ("sha256", "pdq", "pdq_quality", "action", "flags")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which images are searched."""

    columns: Iterable[str]
    """of `decisions`, that are looked at"""
    holds: Callable[[pa.Table], NDArray[np.bool_]]
    """Bool [N] for N decision rows; called in threads"""


@dataclass(frozen=True, slots=True)
class Found:
    """One image, or one of several that look the same."""

    uri: str
    etag: str
    score: float
    """the cosine with the query, -1 to 1: the highest over the image's frames"""
    frame: int
    """the frame with that cosine, counted from 0"""
    action: str
    """of its newest decision"""
    flags: tuple[str, ...]
    alike: int
    """further images that look the same, as far as they were met among the nearest"""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found."""

    archive: ModelRuns
    images: int
    """images that were searched"""
    restricted: int
    """images that were not, since they are on a restricted hash list"""
    found: tuple[Found, ...]
    """nearest first"""


@dataclass(frozen=True, slots=True)
class _Part:
    images: int
    examples: tuple[Example, ...]
    flags: dict[str, tuple[str, ...]]
    """by URI"""
    hidden: int


def nearest(
    archive: Archive,
    queries: Queries,
    top: int,
    chosen: Chosen | None = None,
    threads: int | None = None,
    known: KnownImages | None = None,
) -> SearchResult:
    """The images nearest to any of the queries, near-identical ones as one. Memory does not grow with the number of images.

    Images on a restricted hash list, of the run that decided about them or of `known`, are left out.

    Cosines are computed in float64 from the float16 embeddings as they are stored, and do not depend on shards or threads.

    Raises:
        SettingsError: a number that makes no sense, or `chosen` cannot be computed.
        OutputError: a file cannot be read.
    """
    if not 1 <= top <= MOST:
        raise SettingsError(f"--top {top}: give 1 to {MOST:,}")
    columns = dict.fromkeys([*_COLUMNS, *showing.COLUMNS, *(chosen.columns if chosen else ())])

    def work(images: StoredImages) -> _Part:
        if chosen is not None:
            images = images.keep(chosen.holds(images.scored), np.zeros(images.errors.num_rows, np.bool_))
        shown = showing.may_show_under(images, known)
        return _nearest(images.keep(shown, np.zeros(images.errors.num_rows, np.bool_)), queries, top, int((~shown).sum()))

    count = hidden = 0
    examples: tuple[Example, ...] = ()
    flags: dict[str, tuple[str, ...]] = {}
    for part in archive.each(columns, work, threads, with_hashes=bool(known)):
        count += part.images
        hidden += part.hidden
        examples = collapse((*examples, *part.examples), lambda example: -example.score, top)
        all_flags = flags | part.flags
        flags = {example.uri: all_flags[example.uri] for example in examples}
    return SearchResult(
        archive=archive.used,
        images=count,
        restricted=hidden,
        found=tuple(Found(e.uri, e.etag, e.score, e.frame, e.action, flags[e.uri], e.copies - 1) for e in examples),
    )


def cosines(vectors: NDArray[np.float16], queries: Queries) -> NDArray[np.float64]:
    """The highest cosine [F] of each unit embedding [F, D] with the queries [Q, D], in [-1, 1]."""
    found = np.empty(len(vectors))
    for rows, doubles in double_blocks(vectors):
        found[rows] = (queries @ doubles.T).max(axis=0)[: rows.stop - rows.start]
    return np.clip(found, -1.0, 1.0, out=found)


def _nearest(images: StoredImages, queries: Queries, top: int, hidden: int) -> _Part:
    count = images.scored.num_rows
    if not count:
        return _Part(0, (), {}, hidden)
    by_frame = cosines(images.vectors, queries)
    best = best_frames(by_frame[:, None], images.starts[:-1], images.starts[1:])[:, 0]
    score = by_frame[best]
    kept = Pictures(images.scored).collapse(np.arange(count), -score, top)
    rows = images.scored.take(pa.array([image for image, _ in kept], pa.int64())).to_pylist()
    examples = tuple(
        Example(
            uri=row["uri"],
            etag=row["etag"],
            score=float(score[image]),
            action=row["action"],
            top_prompt="",
            frame=int(images.frames[best[image]]),
            digest=(row["sha256"] or "")[:DIGEST],
            pdq=row["pdq"],
            pdq_quality=row["pdq_quality"],
            copies=copies,
        )
        for row, (image, copies) in zip(rows, kept, strict=True)
    )
    return _Part(count, examples, {row["uri"]: tuple(row["flags"]) for row in rows}, hidden)

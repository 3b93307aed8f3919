"""One step of a plan: rows of blocks that belong together, put together and stored. Helpers of the driver do it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.common.hash_set import Hashes, hashes
from moderation.planning.object_tables import SCHEMA
from moderation.planning.plan import Listed, StoredPage, store_step
from moderation.results.paths import NO_SHARD, RunPaths
from moderation.storage import Store

Rows = NDArray[np.int64]


class Piece(NamedTuple):
    """Which rows of a block's table a step consists of; at least one."""

    to_score: Rows
    redecided: Rows


@dataclass(frozen=True, slots=True)
class Cut:
    """What a step consists of."""

    number: int
    """of the step, from 0"""
    pieces: tuple[Piece, ...]
    """of consecutive blocks; at least one"""
    listed: Listed
    """its `entries` are those before the part that the last block is of; its `last_uri` is empty"""

    @property
    def last(self) -> int:
        """The last row, in the last of the blocks."""
        return int(max(rows[-1] for rows in self.pieces[-1] if len(rows)))


def assembled(cut: Cut, blocks: Sequence[pa.Table]) -> StoredPage:
    """The step that a cut describes, of the blocks' objects."""
    to_score = _taken(blocks, [piece.to_score for piece in cut.pieces])
    redecided = _taken(blocks, [piece.redecided for piece in cut.pieces])
    last = blocks[-1].slice(cut.last, 1)
    entries = cut.listed.entries + last["entry"][0].as_py()
    listed = replace(cut.listed, entries=entries, last_uri=last["uri"][0].as_py())
    return StoredPage(name_of(to_score) if to_score.num_rows else NO_SHARD, to_score, redecided, (), listed)


def store_cut(output: Store, paths: RunPaths, cut: Cut, blocks: Sequence[pa.Table]) -> StoredPage:
    """Store the step that a cut describes. Done again, it stores the same. Raises `StorageError`."""
    step = assembled(cut, blocks)
    store_step(output, paths, cut.number, step)
    return step


def name_of(objects: pa.Table) -> str:
    """As `shard_name`, of a table of objects."""
    columns = (objects["uri"].to_pylist(), objects["etag"].to_pylist())
    text = "\0".join(chain.from_iterable(zip(*columns, strict=True)))
    return hashlib.sha256(f"{text}\0".encode()).hexdigest()[:16]


def uris_in(step: StoredPage) -> Hashes:
    """The hashes of the URIs of all objects of a step."""
    return hashes(chain(step.objects["uri"].to_pylist(), step.redecided["uri"].to_pylist()))


def versions_in(objects: pa.Table) -> Hashes:
    """As `version_hashes`, of a table of objects."""
    columns = (objects["uri"].to_pylist(), objects["etag"].to_pylist())
    return hashes(f"{uri}\0{etag}" for uri, etag in zip(*columns, strict=True))


def _taken(blocks: Sequence[pa.Table], rows: Sequence[Rows]) -> pa.Table:
    parts = [block.select(SCHEMA.names).take(pa.array(some)) for block, some in zip(blocks, rows, strict=True) if len(some)]
    return pa.concat_tables(parts).combine_chunks() if parts else SCHEMA.empty_table()

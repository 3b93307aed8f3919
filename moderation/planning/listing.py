"""The listing of a run: the selected objects of all sources, each once, and its position.

An earlier attempt's listing resumes after its last object only if the store guarantees to list in order. With other stores,
everything is listed again, and objects in the stored plan are skipped.
"""

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.common.hash_set import Hashes, HashSet
from moderation.planning.blocks import DECIDED, EMBEDDED, TAKEN, Block, Part, in_table
from moderation.planning.helpers import Helpers
from moderation.planning.steps import Piece, Rows
from moderation.planning.tally import Tally
from moderation.sources import Source

ALL = sys.maxsize
"""Entries of a list to skip: all that it has."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """M objects of a block that the run has not listed before."""

    reference: Any
    """to the block's table, for `Helpers.store`"""
    rows: Rows
    """[M] in that table, of those that are not decided"""
    decided: NDArray[np.bool_]
    """[M]"""
    embedded: NDArray[np.bool_]
    """[M] of those that are not decided: their embeddings are stored"""
    to_score: NDArray[np.bool_]
    """[M] the others"""

    def piece(self, start: int, end: int) -> Piece:
        """The objects from one to before another."""
        rows = self.rows[start:end]
        return Piece(rows[self.to_score[start:end]], rows[self.embedded[start:end]])


class Listing:
    """The selected objects of all sources after the tally's position, each once.

    Args:
        sources: what is listed.
        helpers: who reads them.
        tally: where an earlier attempt came to, and this one comes to.
        planned: hashes of the URIs that are already in shards, if the order is unreliable.
        patient: whether all of it is wanted: else no more is read at a time than is needed.
    """

    def __init__(
        self, sources: tuple[Source, ...], helpers: Helpers, tally: Tally, planned: HashSet | None, *, patient: bool
    ) -> None:
        self._sources, self._helpers, self._tally, self._planned = sources, helpers, tally, planned
        self._patient = patient
        self._seen = HashSet()

    def blocks(self) -> Iterator[Chosen]:
        """Blocks of objects. Raises `NotInOrderError` if a store without guaranteed order lists out of order."""
        tally = self._tally
        begun, done, after = tally.source, tally.entries, tally.last_uri
        for number, source in enumerate(self._sources):
            if number > begun:
                tally.source, done, after = number, 0, ""
            if source.is_fixed:
                # Earlier lists are read again, so that nothing they name is processed twice.
                tally.entries = 0
                yield from self._chosen(source, "", done if number >= begun else ALL)
            elif number >= begun:
                tally.entries = done
                yield from self._chosen(source, after, 0)

    def _chosen(self, source: Source, after: str, skip: int) -> Iterator[Chosen]:
        tally = self._tally
        for block, reference in self._read(source, after, skip):
            taken = (block.flags & TAKEN).astype(bool)
            if len(block.uris):
                taken &= self._first_seen(block.uris)
            rows = np.flatnonzero(taken)
            places = np.cumsum(in_table(block.flags)) - 1
            tally.seconds += block.seconds
            # Objects skipped on purpose are not missing.
            tally.named += block.census - block.entries + len(rows)
            if not source.is_fixed:
                tally.missing = tally.named - tally.listed - len(rows)
            flags = block.flags[rows]
            decided = (flags & DECIDED).astype(bool)
            embedded = (flags & EMBEDDED).astype(bool) & ~decided
            yield Chosen(reference, places[rows], decided, embedded, ~(decided | embedded))

    def _read(self, source: Source, after: str, skip: int) -> Iterator[tuple[Block, Any]]:
        """The blocks of a source. The tally's `entries` are those before the part that a block is of."""
        tally = self._tally
        together = self._helpers.readers if self._patient else 1
        waiting = deque(source.parts(after) if together > 1 else [source])
        hashed = source.is_fixed or self._planned is not None
        in_order = self._planned is None and not source.is_ordered
        reading: deque[Iterator[tuple[Block, Any]]] = deque()
        while waiting or reading:
            left = max(0, skip - tally.entries)
            # What is to be skipped of a part is known once the parts before it have ended.
            while waiting and len(reading) < (1 if left else together):
                reading.append(self._helpers.blocks(Part(waiting.popleft(), after, left, hashed, in_order)))
            entries = 0
            for block, reference in reading[0]:
                entries += block.entries
                yield block, reference
            tally.entries += entries
            reading.popleft()

    def _first_seen(self, uris: Hashes) -> NDArray[np.bool_]:
        fresh = self._seen.add(uris)
        self._tally.repeated += len(uris) - int(fresh.sum())
        return fresh if self._planned is None else fresh & ~self._planned.contains(uris)

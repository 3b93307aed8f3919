"""Columns compared bit for bit, and the differences counted. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.results.schemas import Table
from moderation.studies.replay.replay_result import SHOWN, Difference

NOTHING = "nothing"
"""The text for a null."""


@dataclass(slots=True)
class Differences:
    """All that were found so far: counted, and the first ones kept."""

    count: int = 0
    images: int = 0
    by_column: Counter[str] = field(default_factory=Counter)
    shown: list[Difference] = field(default_factory=list)
    largest: float | None = None
    """distance between a stored score and the recomputed one"""
    _uris: set[str] = field(default_factory=set)

    def compare(
        self,
        table: Table,
        column: str,
        stored: pa.ChunkedArray | pa.Array,
        recomputed: pa.ChunkedArray | pa.Array,
        uris: pa.ChunkedArray | pa.Array,
        rules: pa.ChunkedArray | pa.Array | None = None,
    ) -> None:
        """Compare a column with what it should be, row by row: all [N]."""
        differs = differing(stored, recomputed)
        rows = np.flatnonzero(differs)
        if not len(rows):
            return
        self._take(table, column, len(rows), uris.take(pa.array(rows)).to_pylist())
        for row in rows[: SHOWN - len(self.shown)]:
            rule = None if rules is None else rules[row].as_py()
            self.shown.append(
                Difference(uris[row].as_py(), table, column, _in_words(stored[row]), _in_words(recomputed[row]), rule)
            )
        if column == "score":
            self._measure(stored.take(pa.array(rows)), recomputed.take(pa.array(rows)))

    def add(self, found: Difference) -> None:
        """Take in one difference."""
        self._take(found.table, found.column, 1, [found.uri])
        if len(self.shown) < SHOWN:
            self.shown.append(found)

    def next_shard(self) -> None:
        """Forget which images of a shard differ: none of them is in another."""
        self._uris.clear()

    def _take(self, table: str, column: str, count: int, uris: Sequence[str]) -> None:
        self.count += count
        self.by_column[f"{table}.{column}"] += count
        before = len(self._uris)
        self._uris.update(uris)
        self.images += len(self._uris) - before

    def _measure(self, stored: pa.ChunkedArray | pa.Array, recomputed: pa.ChunkedArray | pa.Array) -> None:
        distance = np.abs(_floats(stored).astype(np.float64) - _floats(recomputed))
        if np.isfinite(distance).any():
            self.largest = max(self.largest or 0.0, float(np.nanmax(distance[np.isfinite(distance)])))


def differing(stored: pa.ChunkedArray | pa.Array, recomputed: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    """Bool [N]: which values of two columns of one type differ. Floats are compared by their bits, so that NaN equals NaN."""
    if pa.types.is_list(stored.type):
        return np.array([a != b for a, b in zip(stored.to_pylist(), recomputed.to_pylist(), strict=True)], np.bool_)
    if pa.types.is_float32(stored.type):
        unequal = _floats(stored).view(np.uint32) != _floats(recomputed).view(np.uint32)
    else:
        unequal = np.asarray(pc.fill_null(pc.not_equal(stored, recomputed), False), np.bool_)  # noqa: FBT003
    found: NDArray[np.bool_] = unequal | (_nulls(stored) != _nulls(recomputed))
    return found


def _floats(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float32]:
    """With 0 for null."""
    return np.ascontiguousarray(np.asarray(pc.fill_null(column, pa.scalar(0.0, pa.float32()))), np.float32)


def _nulls(column: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    nulls: NDArray[np.bool_] = np.asarray(pc.is_null(column), np.bool_)
    return nulls


def _in_words(value: pa.Scalar) -> str:
    """A value with enough digits to distinguish it from its neighbours."""
    plain = value.as_py()
    if plain is None:
        return NOTHING
    if pa.types.is_float32(value.type):
        return str(np.float32(plain))
    if isinstance(plain, list):
        return ", ".join(str(item) for item in plain) or "none"
    return str(plain).lower() if isinstance(plain, bool) else str(plain)

"""Suggestions: what people decided about pictures that look the same. A suggestion decides nothing."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from duckdb.func import FunctionNullHandling, PythonUDFType
from numpy.typing import NDArray

from moderation.lists.hamming import HammingIndex
from moderation.reviews.current import deciding
from moderation.reviews.store import read
from moderation.storage import Store

_COLUMNS = ("uri", "etag", "sha256", "pdq", "rule", "reviewer", "selection", "action", "decided_at", "supersedes")
_HEX_DIGITS = 64
KIND = pa.struct([("action", pa.string()), ("review_id", pa.string()), ("distance", pa.int32())])
"""What is suggested: the action, the review that decided it, and by how many bits the pictures differ."""


class NearReviews:
    """The newest decisions of people about images, found by PDQ hashes within a distance."""

    def __init__(self, reviews: Callable[[], pa.Table], distance: int) -> None:
        """The reviews are read when they are first needed; the distance is 0 to 255 bits."""
        self._reviews = reviews
        self._distance = distance

    @cached_property
    def _decided(self) -> tuple[pa.Table, HammingIndex]:
        rows = deciding(self._reviews())
        rows = rows.filter(pc.equal(pc.utf8_length(rows["pdq"]), _HEX_DIGITS))
        return rows, HammingIndex(_hashes(rows["pdq"]), self._distance)

    def nearest(self, hashes: pa.Array) -> pa.Array:
        """Of each PDQ hash, 64 hex digits or null, the nearest decision as `KIND`; null where none is near enough."""
        known = hashes.is_valid().to_numpy(zero_copy_only=False)
        if not known.any():
            return pa.nulls(len(hashes), KIND)
        rows, index = self._decided
        entry, distance, _ = index.nearest(_hashes(hashes.drop_null()))
        found = np.full(len(hashes), -1)
        found[known] = entry
        bits = np.full(len(hashes), 0, np.int32)
        bits[known] = distance
        places = pa.array(np.where(found < 0, 0, found), mask=found < 0)
        columns = [rows[name].take(places).combine_chunks() for name in ("action", "review_id")]
        return pa.StructArray.from_arrays([*columns, pa.array(bits)], fields=list(KIND), mask=pa.array(found < 0))


def create_near_review(connection: duckdb.DuckDBPyConnection, output: Store, distance: int | None) -> None:
    """Make the SQL function `near_review(pdq)`. The reviews are read when it is first called. `distance` None: always null."""

    def near_review(hashes: pa.ChunkedArray) -> Any:
        column = hashes.combine_chunks() if isinstance(hashes, pa.ChunkedArray) else hashes
        return pa.nulls(len(column), KIND) if near is None else near.nearest(column)

    near = None if distance is None else NearReviews(lambda: read(output, _COLUMNS), distance)
    kind = duckdb.struct_type({"action": "VARCHAR", "review_id": "VARCHAR", "distance": "INTEGER"})
    connection.create_function(
        "near_review", near_review, ["VARCHAR"], kind, type=PythonUDFType.ARROW, null_handling=FunctionNullHandling.SPECIAL
    )


def _hashes(column: pa.ChunkedArray | pa.Array) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(column.to_pylist())), np.uint8).reshape(-1, _HEX_DIGITS // 2)

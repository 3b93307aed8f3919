"""Images worth showing, and how near-identical ones become one. Pure."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.images import pdq

DIGEST = 16
"""Hex digits of the SHA-256 that examples carry: enough to tell pictures apart."""
MIN_QUALITY = 50
"""Below this, a PDQ hash has too little to tell (the paper's advice)."""
_HEX = 64
"""Hex digits of a PDQ hash."""


class Example(NamedTuple):
    """An image worth looking at under a rule."""

    uri: str
    etag: str
    score: float
    action: str
    top_prompt: str
    frame: int
    digest: str = ""
    """the first `DIGEST` hex digits of the bytes' SHA-256"""
    pdq: str | None = None
    pdq_quality: int | None = None
    copies: int = 1
    """how many near-identical images it stands for, itself among them"""
    critical: bool = False
    """whether a critical rule acts on it, be it this one or another: nobody should see it by accident"""
    sketch: str = ""
    """what its embedding is like, where that is compared: see `sketches`"""

    def same_picture(self, other: "Example") -> bool:
        """Whether both have the same bytes, or PDQ hashes that say something and differ in few bits."""
        if self.digest and self.digest == other.digest:
            return True
        if not self.pdq or not other.pdq or min(self.pdq_quality or 0, other.pdq_quality or 0) < MIN_QUALITY:
            return False
        return pdq.distance(self.pdq, other.pdq) <= pdq.SAME


def collapse(examples: Iterable[Example], order: Callable[[Example], float], kept: int) -> tuple[Example, ...]:
    """The first `kept` pictures by `order`, then digest and URI; each counts the copies that come after it."""
    found: list[Example] = []
    for example in sorted(examples, key=lambda e: (order(e), e.digest, e.uri)):
        known = next((i for i, other in enumerate(found) if other.same_picture(example)), None)
        if known is not None:
            found[known] = found[known]._replace(
                copies=found[known].copies + example.copies, critical=found[known].critical or example.critical
            )
        elif len(found) < kept:
            found.append(example)
    return tuple(found)


class Pictures:
    """The images of a decisions table [N], compared with each other all at once."""

    def __init__(self, decisions: pa.Table) -> None:
        digest = pc.fill_null(pc.utf8_slice_codeunits(decisions["sha256"], 0, DIGEST), "")
        self._digest = np.asarray(digest.combine_chunks().dictionary_encode().indices)
        self._known = np.asarray(pc.not_equal(digest, ""))
        self._bits: NDArray[np.uint64] | None = None
        if "pdq" in decisions.column_names:  # since schema version 2
            whole = pc.equal(pc.fill_null(pc.binary_length(decisions["pdq"]), 0), _HEX)
            hashes = "".join(pc.if_else(whole, decisions["pdq"], "0" * _HEX).to_pylist())
            self._bits = np.frombuffer(bytes.fromhex(hashes), np.uint64).reshape(-1, 4).T.copy()
            self._telling = np.asarray(whole) & (np.asarray(pc.fill_null(decisions["pdq_quality"], 0)) >= MIN_QUALITY)
        order = pc.sort_indices(
            pa.table({"digest": digest, "uri": decisions["uri"]}), [("digest", "ascending"), ("uri", "ascending")]
        )
        # By digest and URI, as `collapse` breaks ties.
        self.rank = np.empty(decisions.num_rows, np.int64)
        """[N] the place of each image by digest, then URI"""
        self.rank[np.asarray(order)] = np.arange(decisions.num_rows)

    def collapse(self, images: NDArray[np.int64], order: NDArray[np.float64], kept: int) -> list[tuple[int, int]]:
        """As `collapse`, of rows whose image is `images` [M] and whose place is `order` [M].

        Returns:
            Up to `kept` pairs: an index into `images`, and how many of them show that picture.
        """
        found: list[tuple[int, int]] = []
        left = order.copy()
        while len(found) < kept and (best := left.min(initial=np.inf)) < np.inf:
            ties = np.flatnonzero(left == best)
            first = int(ties[self.rank[images[ties]].argmin()])
            same = self.same_as(int(images[first]))[images] & (left < np.inf)
            found.append((first, int(same.sum())))
            left[same] = np.inf
        return found

    def same_as(self, image: int) -> NDArray[np.bool_]:
        """[N] which images show the same picture as one of them."""
        same: NDArray[np.bool_] = (self._digest == self._digest[image]) & self._known
        if self._bits is not None and self._telling[image]:
            differing = np.bitwise_count(self._bits ^ self._bits[:, image, None]).sum(axis=0, dtype=np.int16)
            same |= self._telling & (differing <= pdq.SAME)
        same[image] = True
        return same

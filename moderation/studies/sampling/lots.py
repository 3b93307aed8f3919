"""Drawing by lot in one pass: every image gets a random number from its URI and the seed, and the lowest of a stratum win.

The k lowest of N independent uniform numbers are a simple random sample of k. Since a lot depends on nothing but URI and seed,
the sample is the same whatever the order of shards and the number of threads, and a larger one holds the smaller ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.common.hash_set import hashes

_SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("etag", pa.string()),
        ("sha256", pa.string()),
        ("frame", pa.int32()),
        ("score", pa.float32()),
        ("lot", pa.uint64()),
    ]
)


def lots(uris: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """A uniform 64-bit number for each URI, the same for the same seed."""
    digests = hashes(f"{seed} {uri}" for uri in uris)
    return digests.view(">u8")[::2].astype(np.uint64)


def places(uris: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """Numbers to show images in the order of, which have nothing to do with their lots.

    A stratum from which many are drawn out of few has higher lots than another: in the order of lots it would come last.
    """
    return lots([f"order {uri}" for uri in uris], seed)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many images are kept while images go by."""

    drawn: int
    """of each stratum: any of them may be asked to fill in for the others"""
    closest: int
    """below the threshold, in case too few are near"""


@dataclass(frozen=True, slots=True)
class Kept:
    """Of some images: how many belong to each stratum, and those with the lowest lots. Tables have the columns of an image."""

    flagged: pa.Table
    near: pa.Table
    rest: pa.Table
    closest: pa.Table
    """below the threshold, the highest scores"""
    counts: tuple[int, int, int]
    """images flagged, near and neither"""

    def join(self, other: "Kept", wanted: Wanted) -> "Kept":
        """The same of both together."""
        return Kept(
            flagged=lowest(pa.concat_tables([self.flagged, other.flagged]), wanted.drawn),
            near=lowest(pa.concat_tables([self.near, other.near]), wanted.drawn),
            rest=lowest(pa.concat_tables([self.rest, other.rest]), wanted.drawn + wanted.closest),
            closest=_closest(pa.concat_tables([self.closest, other.closest]), wanted.closest),
            counts=(
                self.counts[0] + other.counts[0],
                self.counts[1] + other.counts[1],
                self.counts[2] + other.counts[2],
            ),
        )


def nothing() -> Kept:
    """Of no images."""
    empty = _SCHEMA.empty_table()
    return Kept(empty, empty, empty, empty, (0, 0, 0))


def kept(decisions: pa.Table, score: NDArray[np.float32], frame: NDArray[np.int32], rules: "Bounds", wanted: Wanted) -> Kept:
    """What is kept of N images.

    Args:
        decisions: [N] rows with `uri`, `etag` and `sha256`.
        score: [N] under the rule.
        frame: [N] the frames with these scores.
        rules: what makes a score flagged or near, and the seed of the lots.
        wanted: how many are kept.
    """
    flagged = score >= rules.threshold
    near = ~flagged & (np.abs(score - rules.threshold) <= rules.near)
    rest = ~flagged & ~near
    table = decisions.select(["uri", "etag", "sha256"])
    table = (
        table.append_column("frame", pa.array(frame, pa.int32()))
        .append_column("score", pa.array(score, pa.float32()))
        .append_column("lot", pa.array(lots(table["uri"].to_pylist(), rules.seed)))
        .cast(_SCHEMA)
    )
    return Kept(
        flagged=lowest(table.filter(pa.array(flagged)), wanted.drawn),
        near=lowest(table.filter(pa.array(near)), wanted.drawn),
        rest=lowest(table.filter(pa.array(rest)), wanted.drawn + wanted.closest),
        closest=_closest(table.filter(pa.array(~flagged)), wanted.closest),
        counts=(int(flagged.sum()), int(near.sum()), int(rest.sum())),
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What makes a score flagged or near, as decisions are made: in float32."""

    threshold: np.float32
    """the rule's lowest"""
    near: np.float32
    seed: int


def lowest(table: pa.Table, count: int) -> pa.Table:
    """The rows with the lowest lots, in their order."""
    return table.take(pc.sort_indices(table, [("lot", "ascending")]).slice(0, count))


def _closest(table: pa.Table, count: int) -> pa.Table:
    return table.take(pc.sort_indices(table, [("score", "descending"), ("lot", "ascending")]).slice(0, count))


def share(sizes: Sequence[int], count: int) -> list[int]:
    """How many of `count` each stratum gives: equal numbers; what one does not have the others give."""
    given = [0] * len(sizes)
    left = min(count, sum(sizes))
    while left:
        open_ones = [i for i, size in enumerate(sizes) if given[i] < size]
        each, over = divmod(left, len(open_ones))
        for place, i in enumerate(open_ones):
            more = min(each + (place >= len(open_ones) - over), sizes[i] - given[i])
            given[i] += more
            left -= more
    return given

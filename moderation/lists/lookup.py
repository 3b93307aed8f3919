"""Several lists at once: which of them images are on, by the hashes of their bytes and of their frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.lists.hash_list import HashKind, HashList
from moderation.lists.matching import Match, Matcher, MatchSettings, from_hex


@dataclass(frozen=True, eq=False)
class ImageHashes:
    """The hashes of N images in F frames, as results store them. What is not known is null."""

    sha256: pa.Array | pa.ChunkedArray
    """[N] hex digits"""
    md5: pa.Array | pa.ChunkedArray
    """[N] hex digits"""
    pdq: pa.Array | pa.ChunkedArray
    """[F] hex digits"""
    quality: pa.Array | pa.ChunkedArray
    """[F] of the PDQ, 0 to 100"""
    starts: NDArray[np.int64]
    """[N + 1] image i has the frames starts[i] to starts[i + 1]"""
    frames: NDArray[np.int32]
    """[F] numbers of the frames, counted from 0"""

    @classmethod
    def of_bytes(cls, sha256: pa.Array | pa.ChunkedArray, md5: pa.Array | pa.ChunkedArray) -> "ImageHashes":
        """Of images without frames: those that could not be decoded."""
        none = pa.array([], pa.string())
        return cls(sha256, md5, none, pa.array([], pa.int32()), np.zeros(len(sha256) + 1, np.int64), np.zeros(0, np.int32))


@dataclass(frozen=True, eq=False)
class Matches:
    """Images and the lists that they are on: K pairs, by image, then in the order of the lists."""

    image: NDArray[np.int64]
    """[K] index of the image"""
    list: NDArray[np.int64]
    """[K] index of the list"""
    found: tuple[Match, ...]
    """[K] the nearest entry; of several frames that are as near the earliest one's"""

    def take(self, images: NDArray[np.int64]) -> "Matches":
        """Those of some images, ascending; the first of these becomes image 0."""
        chosen = np.flatnonzero(np.isin(self.image, images))
        numbered = np.searchsorted(images, self.image[chosen])
        return Matches(numbered, self.list[chosen], tuple(self.found[at] for at in chosen))

    def matrix(self, images: int, lists: int) -> NDArray[np.bool_]:
        """[N, L] which image is on which list."""
        found = np.zeros((images, lists), np.bool_)
        found[self.image, self.list] = True
        return found


Key = tuple[MatchSettings, str]
"""What a list's index is made of: settings, and the digest of its content."""
_ready: dict[Key, Matcher] = {}
_lock = Lock()


class Lookup:
    """Lists, to be asked together. Pickles as what it is made of; an index is built where it is first needed.

    A process keeps the indexes that were asked for last, so that tasks with the same lists do not build them again.
    """

    def __init__(self, lists: Sequence[tuple[MatchSettings, HashList]]) -> None:
        self._lists = tuple(lists)
        self._matchers: tuple[Matcher, ...] | None = None

    def __len__(self) -> int:
        return len(self._lists)

    def __getstate__(self) -> dict[str, object]:
        return {"_lists": self._lists, "_matchers": None}

    def same_as(self, other: "Lookup") -> bool:
        """Whether both find the same matches in all images."""
        mine, theirs = ([(settings, content.digest) for settings, content in one._lists] for one in (self, other))
        return mine == theirs

    def match(self, images: ImageHashes, threads: int = 1) -> Matches:
        """The lists that images are on. Thread-safe.

        A frame whose PDQ has a lower quality than a list asks for is not matched with that list.
        """
        found: list[tuple[int, int, Match]] = []
        asked: dict[HashKind, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
        for number, matcher in enumerate(self._built()):
            kind = matcher.settings.kind
            if kind not in asked:
                column = {HashKind.SHA256: images.sha256, HashKind.MD5: images.md5, HashKind.PDQ: images.pdq}[kind]
                asked[kind] = _known(column, kind)
            hashes, rows = asked[kind]
            if kind is HashKind.PDQ:
                quality = np.asarray(pc.fill_null(images.quality, 0), np.int64)[rows]
                of_frames = {int(rows[at]): match for at, match in matcher.match(hashes, quality, threads).items()}
                found += [(image, number, match) for image, match in _nearest(of_frames, images).items()]
            else:
                found += [(int(rows[at]), number, match) for at, match in matcher.match(hashes).items()]
        found.sort(key=lambda one: one[:2])
        return Matches(
            np.array([image for image, _, _ in found], np.int64),
            np.array([number for _, number, _ in found], np.int64),
            tuple(match for _, _, match in found),
        )

    def _built(self) -> tuple[Matcher, ...]:
        global _ready  # noqa: PLW0603 - of this process
        if self._matchers is None:
            with _lock:
                made = {
                    (settings, content.digest): _ready.get((settings, content.digest)) or Matcher(settings, content)
                    for settings, content in self._lists
                }
                _ready = made
            self._matchers = tuple(made[settings, content.digest] for settings, content in self._lists)
        return self._matchers


def _nearest(of_frames: dict[int, Match], images: ImageHashes) -> dict[int, Match]:
    """Of each image the match of its nearest frame, the earliest of equals."""
    best: dict[int, Match] = {}
    for row in sorted(of_frames):
        image = int(np.searchsorted(images.starts, row, side="right")) - 1
        match = replace(of_frames[row], frame=int(images.frames[row]))
        if image not in best or match.distance < best[image].distance:
            best[image] = match
    return best


def _known(column: pa.Array | pa.ChunkedArray, kind: HashKind) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The hashes of a column that are ones, uint8 [M, size], and their rows [M]."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    rows = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(pc.binary_length(column), 2 * kind.size), fill_value=False)))
    texts = column.take(pa.array(rows)).to_pylist()
    try:
        return from_hex(texts, kind), rows
    except ValueError:  # somebody else wrote this file
        good = [n for n, text in enumerate(texts) if set(text) <= _HEX]
        return from_hex([texts[n] for n in good], kind), rows[good]


_HEX = frozenset("0123456789abcdefABCDEF")

"""Images' hashes against a list: which entry each matches, and how far away it is."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.lists.hamming import HammingIndex
from moderation.lists.hash_list import HashKind, HashList
from moderation.lists.reading import MIN_QUALITY
from moderation.lists.turned import TURNS, turned

MAX_DISTANCE = 64
"""At this distance unrelated pictures begin to match; a larger one is a mistake."""


@dataclass(frozen=True)
class MatchSettings:
    """What counts as a match with a list."""

    list: str
    """the list's id"""
    kind: HashKind
    distance: int = 31
    """bits of a PDQ that may differ, 0 to `MAX_DISTANCE`; the other kinds match exactly"""
    min_quality: int = MIN_QUALITY
    """0 to 100: PDQ hashes of images below it are not matched"""
    turned: bool = False
    """whether the list's PDQ entries match turned and mirrored as well"""


@dataclass(frozen=True)
class Match:
    """An image and the entry that it is nearest to."""

    list: str
    """id of the list"""
    entry: str
    """the entry's hash as the list has it, hex digits"""
    label: str
    """what the list says of it; may be empty"""
    distance: int
    """bits that differ; 0 for an exact match"""
    turn: str = TURNS[0]
    """how the entry's picture is turned or mirrored to match, one of `TURNS`"""
    entries: int = 1
    """how many entries of the list match, turned ones counted by themselves"""
    frame: int | None = None
    """number of the image's frame that matches, from 0; None for hashes of bytes"""


class Matcher:
    """One list, ready to be asked."""

    def __init__(self, settings: MatchSettings, content: HashList) -> None:
        """Build the index.

        Raises:
            ValueError: kind of list and settings differ, or the distance is not in 0 to `MAX_DISTANCE`.
        """
        if content.kind is not settings.kind:
            raise ValueError(f"a list of {content.kind.shown} is no list of {settings.kind.shown}")
        if not 0 <= settings.distance <= MAX_DISTANCE:
            raise ValueError(f"distance {settings.distance}: give 0 to {MAX_DISTANCE}")
        self.settings, self.content = settings, content
        self._index: HammingIndex | None = None
        if settings.kind is HashKind.PDQ:
            all_turns = turned(content.hashes).reshape(-1, content.kind.size) if settings.turned else content.hashes
            self._index = HammingIndex(all_turns, settings.distance)
        else:
            self._sorted = _texts(content.hashes)

    def match(self, hashes: NDArray[np.uint8], quality: NDArray[np.int64] | None = None, threads: int = 1) -> dict[int, Match]:
        """The matches among images, by their index.

        Args:
            hashes: uint8 [N, 32], or [N, 16] of MD5.
            quality: [N] 0 to 100, of PDQ hashes; images below `min_quality` are not matched. None: all are.
            threads: that look PDQ hashes up.
        """
        if self._index is None:
            at = np.searchsorted(self._sorted, _texts(hashes))
            hit = (
                np.flatnonzero(self._sorted[np.minimum(at, len(self._sorted) - 1)] == _texts(hashes))
                if len(self.content)
                else ()
            )
            return {int(n): self._of(int(at[n]), 0, 1) for n in hit}
        asked = np.arange(len(hashes)) if quality is None else np.flatnonzero(quality >= self.settings.min_quality)
        entry, distance, count = self._index.nearest(hashes[asked], threads)
        return {int(asked[n]): self._of(int(entry[n]), int(distance[n]), int(count[n])) for n in np.flatnonzero(entry >= 0)}

    def _of(self, entry: int, distance: int, count: int) -> Match:
        turn, entry = divmod(entry, len(self.content))
        label = self.content.labels[entry].as_py()
        return Match(self.settings.list, self.content.hex(entry), label, distance, TURNS[turn], count)


def from_hex(hashes: Sequence[str], kind: HashKind) -> NDArray[np.uint8]:
    """Uint8 [N, size] of hex digits, as results store hashes.

    Raises:
        ValueError: one has another length, or other characters.
    """
    joined = bytes.fromhex("".join(hashes))
    if any(len(one) != 2 * kind.size for one in hashes):
        raise ValueError(f"a {kind.shown} hash has {2 * kind.size} hex digits")
    return np.frombuffer(joined, np.uint8).reshape(-1, kind.size)


def floods(matches: Iterable[Match], images: int, share: float) -> list[tuple[str, str, int]]:
    """Entries that match more than a share of a run's images: (list, entry, images), the most first.

    One entry that suddenly matches much is rather a bad entry (a logo, a plain picture) than so many known images.
    """
    counts = Counter((match.list, match.entry) for match in matches)
    return [(name, entry, count) for (name, entry), count in counts.most_common() if count > share * images]


def _texts(hashes: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    found: NDArray[np.bytes_] = np.ascontiguousarray(hashes).view(f"S{hashes.shape[1]}").ravel()
    return found

"""Images counted by folder, in bounded memory however many folders there are. Pure."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MOST = 2_000
"""Maximum number of folders: if there are more, the deepest count as their parent folders."""


class FolderCounts:
    """Counts by folder: exact, except for the depth of the folders.

    Args:
        most: maximum number of folders.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._counts: dict[str, NDArray[np.int64]] = {}
        self.depth: int | None = None
        """number of levels: the bucket is the first; None for all"""

    @property
    def counts(self) -> Mapping[str, NDArray[np.int64]]:
        """By folder, each ending in a slash."""
        return self._counts

    def add(self, found: Mapping[str, NDArray[np.int64]]) -> None:
        """Take in the counts of a shard."""
        for folder, counts in found.items():
            self._add(folder if self.depth is None else cut(folder, self.depth), counts)
        while len(self._counts) > self._most:
            deepest = max(map(_depth, self._counts))
            if deepest == 1:
                return
            self.depth = deepest - 1
            before, self._counts = self._counts, {}
            for folder, counts in before.items():
                self._add(cut(folder, self.depth), counts)

    def _add(self, folder: str, counts: NDArray[np.int64]) -> None:
        known = self._counts.get(folder)
        self._counts[folder] = counts if known is None else known + counts


def folders(uris: pa.Array, depth: int | None = None) -> pa.DictionaryArray:
    """The folder of each URI, with the slash at its end; at most `depth` levels of it."""
    halves = pc.split_pattern(uris, "/", max_splits=1, reverse=True)
    found = pc.list_element(halves, 0).dictionary_encode()
    kept = [folder + "/" if depth is None else cut(folder + "/", depth) for folder in found.dictionary.to_pylist()]
    names = pa.array(kept, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(names.indices.take(found.indices), names.dictionary)


def cut(folder: str, depth: int) -> str:
    """The folder's first `depth` levels: `s3://shop/2026/11/` cut to 2 is `s3://shop/2026/`."""
    if _depth(folder) <= depth:
        return folder
    root, separator, rest = folder.partition("://")
    absolute = "/" if rest.startswith("/") else ""
    return f"{root}{separator}{absolute}{'/'.join(rest.strip('/').split('/')[:depth])}/"


def _depth(folder: str) -> int:
    return folder.partition("://")[2].strip("/").count("/") + 1

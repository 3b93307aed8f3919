"""Reading a source block by block: what helpers of the driver do, which learns sixteen bytes and a few bits of an object.

Everything that can be said of an object alone is said here: whether it is selected, its version, whether it is decided already.
Which objects of a run come twice, and where a shard ends, only the driver knows.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.common.hash_set import Hashes, hashes
from moderation.errors import StorageError
from moderation.planning.object_tables import table_of
from moderation.planning.selection import Selection
from moderation.records import ObjectRef
from moderation.results.ledger import Ledger
from moderation.sources import ObjectReader, Source
from moderation.storage import Census

LOOK_UPS = 32
"""Objects of manifests looked up at a time, where the manifest does not give their version."""
PAGES = 5
"""Pages of a block: as much as Ray sends along with a message."""
TAKEN, DECIDED, EMBEDDED = 1, 2, 4
"""Flags of an object: it is selected; it is decided already; its embeddings are stored."""


def in_table(flags: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bool [N]: which of the objects may be planned."""
    planned: NDArray[np.bool_] = (flags & (TAKEN | DECIDED)) == TAKEN
    return planned


class NotInOrderError(Exception):
    """A store that guarantees no order returned a key out of order: list again, by the stored plan."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a source that is read on its own."""

    source: Source
    after: str = ""
    """as for `Source.list`"""
    skip: int = 0
    """entries of a fixed list that an earlier attempt planned: they are only remembered"""
    hashed: bool = True
    """whether the driver needs to know what comes twice: always of a fixed list"""
    in_order: bool = False
    """whether keys out of order are news: the store guarantees none"""


@dataclass(frozen=True, slots=True)
class Block:
    """What the driver learns of consecutive entries of a source, of which N are selected by their keys."""

    flags: NDArray[np.uint8]
    """[N]"""
    uris: Hashes
    """[N] hashes of the URIs; [0] if they are not needed"""
    entries: int
    """entries looked at, selected or not"""
    census: int
    """objects that the source says there are; entries that it lost on the way are the difference"""
    seconds: float
    """what listing took"""
    last: bool
    """whether the part ends with it"""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the sources of a run are read."""

    selection: Selection
    objects: ObjectReader
    pages: int = PAGES
    """pages of a block"""


@dataclass(slots=True)
class _Pages:
    """What is gathered for a block."""

    objects: list[ObjectRef] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    flags: list[NDArray[np.uint8]] = field(default_factory=list)
    uris: list[Hashes] = field(default_factory=list)
    entries: int = 0


class BlockReader:
    """Reads one part after the other."""

    def __init__(self, reading: Reading, ledger: Ledger) -> None:
        self._reading, self._ledger = reading, ledger
        self._blocks: Iterator[tuple[Block, pa.Table]] = iter(())

    def open(self, part: Part) -> None:
        """Begin with a part."""
        self._blocks = blocks(part, self._reading, self._ledger)

    def read(self) -> tuple[Block, pa.Table]:
        """The next block and a table of its objects: those that are `in_table`. Its column `entry` counts the part's entries.

        Raises:
            SourceError, StoreDownError: as `Source.list`.
            NotInOrderError: if the part says that order matters.
        """
        return next(self._blocks, None) or _block(_Pages(), Census(), 0.0, last=True)


def blocks(part: Part, reading: Reading, ledger: Ledger) -> Iterator[tuple[Block, pa.Table]]:
    """The blocks of a part, the last of them perhaps empty."""
    census, entries, last_uri = Census(), 0, part.after
    pages = part.source.list(part.after, census)
    while True:
        gathered, seconds = _Pages(), 0.0
        for _ in range(reading.pages):
            began = time.monotonic()
            found = next(pages, None)
            seconds += time.monotonic() - began
            if found is None:
                yield _block(gathered, census, seconds, last=True)
                return
            if part.in_order:
                last_uri = _in_order(found, last_uri)
            _gather(gathered, found, entries, part, reading, ledger)
            entries += len(found)
        yield _block(gathered, census, seconds, last=False)


def _block(pages: _Pages, census: Census, seconds: float, *, last: bool) -> tuple[Block, pa.Table]:
    flags = np.concatenate(pages.flags) if pages.flags else np.zeros(0, np.uint8)
    uris = np.concatenate(pages.uris) if pages.uris else hashes([])
    block = Block(flags, uris, pages.entries, census.objects, seconds, last)
    census.objects = 0
    kept = in_table(flags)
    table = table_of(list(compress(pages.objects, kept)))
    return block, table.append_column("entry", pa.array(np.array(pages.numbers, np.int64)[kept]))


def _gather(pages: _Pages, found: Sequence[ObjectRef], entries: int, part: Part, reading: Reading, ledger: Ledger) -> None:
    selection, source = reading.selection, part.source
    numbers, page = list(range(entries + 1, entries + len(found) + 1)), list(found)
    if selection.by_key:
        chosen = [selection.takes_key(source.key_of(item.uri)) for item in found]
        numbers = [number for number, takes in zip(numbers, chosen, strict=True) if takes]
        page = [item for item, takes in zip(page, chosen, strict=True) if takes]
    taken = np.ones(len(page), bool)
    if part.hashed:
        pages.uris.append(hashes(item.uri for item in page))
    if source.is_fixed:
        taken[:] = False
        taken[np.unique(pages.uris[-1], return_index=True)[1]] = True
        taken &= np.array(numbers, np.int64) > part.skip
        page = _looked_up(page, taken, reading.objects)
        taken &= np.array([not _is_folder_marker(item) for item in page], bool)
    if selection.by_time:
        taken &= np.array([selection.takes_time(item) for item in page], bool)
    pages.objects += page
    pages.numbers += numbers
    pages.flags.append(_flags(page, taken, ledger))
    pages.entries += len(found)


def _flags(page: list[ObjectRef], taken: NDArray[np.bool_], ledger: Ledger) -> NDArray[np.uint8]:
    flags = np.where(taken, np.uint8(TAKEN), np.uint8(0))
    if ledger.is_empty or not taken.any():
        return flags
    known = ledger.known(page)
    flags[known.decided] |= np.uint8(DECIDED)
    flags[known.embedded] |= np.uint8(EMBEDDED)
    return flags


def _in_order(found: Sequence[ObjectRef], last: str) -> str:
    for item in found:
        if item.uri <= last:
            raise NotInOrderError
        last = item.uri
    return last


def _looked_up(page: list[ObjectRef], wanted: NDArray[np.bool_], objects: ObjectReader) -> list[ObjectRef]:
    """With the versions of the wanted objects that their manifest does not give."""
    unknown = [index for index in np.flatnonzero(wanted).tolist() if not page[index].etag]
    if not unknown:
        return page
    with ThreadPoolExecutor(LOOK_UPS, "look-up") as pool:
        try:
            for index, item in zip(unknown, pool.map(lambda index: _look_up(page[index], objects), unknown), strict=True):
                page[index] = item
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return page


def _look_up(item: ObjectRef, objects: ObjectReader) -> ObjectRef:
    try:
        return objects.look_up(item.uri)
    except StorageError:
        return item  # reading it will fail too, and its row says why


def _is_folder_marker(item: ObjectRef) -> bool:
    """Whether a console made it for a "folder", as listings leave them out: an empty object whose name ends in a slash."""
    return item.uri.endswith("/") and item.size == 0 and item.etag != ""

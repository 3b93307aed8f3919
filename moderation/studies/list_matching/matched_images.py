"""Which images of published runs a hash list matches, each at its newest version. Rows come as they are found."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.common.progress import Progress, tell
from moderation.lists.hash_list import HashKind, HashList
from moderation.lists.lookup import Lookup, Matches
from moderation.lists.matching import Match, MatchSettings
from moderation.results.archive import Archive
from moderation.results.stored_images import StoredImages

STAGE = "matching"
_COLUMNS = ("run_id", "sha256", "md5", "action", "policy")


@dataclass(frozen=True, slots=True)
class MatchedImage:
    """An image that a list matches."""

    uri: str
    etag: str
    run_id: str
    """the run with its newest decision"""
    action: str
    """of that decision"""
    policy: str
    """that decided so"""
    match: Match


@dataclass
class History:
    """Sums, complete once all matches were taken."""

    images: int = 0
    """looked at, errors among them"""
    matched: int = 0
    unknown: int = 0
    """images whose hash of the list's kind is not stored: they were not matched"""
    entries: dict[str, int] = field(default_factory=dict)
    """matched images by entry"""


def match_history(
    archives: Sequence[Archive], content: HashList, settings: MatchSettings, found: History, threads: int | None = None
) -> Generator[MatchedImage]:
    """Match all images of archives, shard by shard: memory does not grow with the history, but with the matches.

    Args:
        archives: what published runs have, by model; an image that several have comes once.
        content: the list.
        settings: what counts as a match.
        found: takes the sums.
        threads: how many shards are worked on at a time.

    Raises:
        OutputError: stored files cannot be read.
    """
    lookup = Lookup([(settings, content)])
    planned = sum(shard.decisions.rows for archive in archives for shard in archive.shards)
    tell(Progress(STAGE, planned=planned))
    seen: set[tuple[str, str]] = set()

    def work(images: StoredImages) -> tuple[list[MatchedImage], int, int]:
        scored, errors = lookup.match(images.image_hashes), lookup.match(images.error_hashes)
        rows = [*_rows(images.scored, scored), *_rows(images.errors, errors)]
        return rows, len(images.scored) + len(images.errors), _unknown(images, settings.kind)

    for archive in archives:
        with closing(archive.each(_COLUMNS, work, threads, with_hashes=True)) as shards:
            for rows, images, unknown in shards:
                found.images, found.unknown = found.images + images, found.unknown + unknown
                for row in rows:
                    version = row.uri, row.etag
                    if len(archives) > 1:
                        if version in seen:
                            continue
                        seen.add(version)
                    found.matched += 1
                    found.entries[row.match.entry] = found.entries.get(row.match.entry, 0) + 1
                    yield row
                tell(Progress(STAGE, planned=planned, done=found.images))


def _rows(decisions: pa.Table, matches: Matches) -> Iterator[MatchedImage]:
    taken = decisions.select(["uri", "etag", "run_id", "action", "policy"]).take(pa.array(matches.image)).to_pylist()
    for row, match in zip(taken, matches.found, strict=True):
        yield MatchedImage(**row, match=match)


def _unknown(images: StoredImages, kind: HashKind) -> int:
    """Images without a stored hash of a kind. Errors have no PDQ, and are not counted for that."""
    if kind is not HashKind.PDQ:
        return sum(int(table[kind.value].null_count) for table in (images.scored, images.errors))
    known: NDArray[np.bool_] = np.asarray(images.image_hashes.pdq.is_valid())
    return int((~np.logical_or.reduceat(known, images.starts[:-1])).sum()) if len(images.scored) else 0

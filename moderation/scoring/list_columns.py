"""What hash lists add to the rows of decisions."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.lists.matching import Match
from moderation.lists.turned import TURNS
from moderation.policy.known_images import Listed
from moderation.policy.schema import ListedImages
from moderation.results import schemas

_MATCHES = schemas.DECISIONS.field("list_matches").type
_NAMES = schemas.DECISIONS.field("overridden").type


def match_column(listed: Listed | None, count: int) -> pa.Array:
    """The lists that each of N images is on, as `list_matches`; null where it is on none."""
    if listed is None or not listed.matches.found:
        return pa.nulls(count, _MATCHES)
    rows: list[list[dict[str, object]] | None] = [None] * count
    for image, number, match in _each(listed):
        row = rows[image] or []
        row.append(_plain(match, listed.lists[number]))
        rows[image] = row
    return pa.array(rows, _MATCHES)


def overridden_column(listed: Listed | None, names: tuple[str, ...], count: int) -> pa.Array:
    """The rules, of R with these names, that a list overrode; null where it overrode none."""
    if listed is None or not listed.outcome.overridden.any():
        return pa.nulls(count, _NAMES)
    rows: list[list[str] | None] = [None] * count
    for image, rule in zip(*(found.tolist() for found in listed.outcome.overridden.nonzero()), strict=True):
        rows[image] = [*(rows[image] or []), names[rule]]
    return pa.array(rows, _NAMES)


def deciding_frames(listed: Listed) -> dict[int, int | None]:
    """Of images that a list decided about, by their index: the frame that matched; None for hashes of bytes."""
    decided = listed.outcome.by_list
    return {image: match.frame for image, number, match in _each(listed) if decided[image] == number}


def matched_counts(listed: Listed | None) -> dict[str, int]:
    """Images by the list that they are on, in any mode."""
    if listed is None:
        return {}
    counts: NDArray[np.int64] = np.bincount(listed.matches.list, minlength=len(listed.lists))
    return {one.id: int(count) for one, count in zip(listed.lists, counts, strict=True) if count}


def _each(listed: Listed) -> "zip[tuple[int, int, Match]]":
    matches = listed.matches
    return zip(matches.image.tolist(), matches.list.tolist(), matches.found, strict=True)


def _plain(match: Match, of: ListedImages) -> dict[str, object]:
    return {
        "list": match.list,
        "entry": match.entry,
        "label": match.label or None,
        "distance": match.distance,
        "frame": match.frame,
        "turn": None if match.turn == TURNS[0] else match.turn,
        "entries": match.entries,
        "restricted": of.restricted,
    }

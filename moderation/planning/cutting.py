"""From listed objects to the steps of a plan: where one ends and the next begins."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.planning.listing import Chosen
from moderation.planning.plan import Listed
from moderation.planning.steps import Cut, Piece
from moderation.planning.tally import Tally


def cuts(blocks: Iterator[Chosen], size: int, limit: int | None, tally: Tally, number: int) -> Iterator[tuple[Cut, list[Any]]]:
    """Steps from `number` on, of at most `size` objects of a kind, each with references to the blocks that it is of.

    The listing ends once `limit` objects are planned.
    """
    held = _Held()
    for block in blocks:
        start, count = 0, len(block.rows)
        while start < count:
            end = min(
                _reached(block.to_score, start, size - held.to_score),
                _reached(block.embedded, start, size - held.redecided),
                count if limit is None else _reached(~block.decided, start, limit - tally.planned),
            )
            held.add(block, start, end, tally.listed_so_far())
            unchanged = int(block.decided[start:end].sum())
            tally.listed += end - start
            tally.unchanged += unchanged
            tally.planned += end - start - unchanged
            start = end
            spent = limit is not None and tally.planned >= limit
            if spent:
                tally.named = tally.listed + tally.missing  # the rest of the page, and of the sources, is not requested
            if size in (held.to_score, held.redecided) or (spent and held.planned):
                yield held.cut(number)
                number, held = number + 1, _Held()
            if spent:
                return
    if held.planned:
        yield held.cut(number)


class _Held:
    """What is listed since the last step ended."""

    def __init__(self) -> None:
        self.to_score = self.redecided = 0
        self._pieces: list[Piece] = []
        self._references: list[Any] = []
        self._listed: Listed | None = None

    @property
    def planned(self) -> int:
        return self.to_score + self.redecided

    def add(self, block: Chosen, start: int, end: int, before: Listed) -> None:
        """Take in objects of a block. `before`: the position of the listing before them."""
        planned = np.flatnonzero(~block.decided[start:end])
        if not len(planned):
            return
        piece = block.piece(start, end)
        self._pieces.append(piece)
        self._references.append(block.reference)
        self.to_score += len(piece.to_score)
        self.redecided += len(piece.redecided)
        # A step ends at its last object: what is unchanged behind it is listed again by an attempt that resumes.
        end = start + int(planned[-1]) + 1
        unchanged = before.unchanged + int(block.decided[start:end].sum())
        self._listed = replace(before, listed=before.listed + end - start, unchanged=unchanged, last_uri="")

    def cut(self, number: int) -> tuple[Cut, list[Any]]:
        if self._listed is None:
            raise ValueError("there is nothing to cut")
        return Cut(number, tuple(self._pieces), self._listed), self._references


def _reached(kind: NDArray[np.bool_], start: int, count: int) -> int:
    """Behind the `count`-th object of a kind from `start` on; the end, if there are fewer."""
    found = np.flatnonzero(kind[start:])
    return start + int(found[count - 1]) + 1 if len(found) >= count else len(kind)

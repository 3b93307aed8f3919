"""Which images the page shows, and so of which thumbnails are made. Pure."""

from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import NamedTuple

from moderation.html.thumbnails import Wanted
from moderation.results.aggregates import EXAMPLES, Aggregates, RuleAggregate
from moderation.results.example_images import Example

MOST = 600
"""Thumbnails of a page."""
UNFLAGGED = 6
"""Images shown of a rule that flagged none."""


class Sheets(NamedTuple):
    """The images of one rule, no image twice."""

    flagged: tuple[Example, ...]
    """spread over the range of scores, highest first"""
    highest: tuple[Example, ...]
    """the highest scores of a rule that flagged nothing and has none near a threshold"""
    near: tuple[Example, ...]
    """closest to a threshold first"""


def sheets(found: RuleAggregate) -> Sheets:
    """What is shown of a rule."""
    flagged = tuple(sorted(found.spread[:EXAMPLES], key=lambda e: (-e.score, e.digest, e.uri)))
    shown = {e.uri for e in flagged}
    near = tuple(e for e in found.near if e.uri not in shown)
    return Sheets(flagged, () if flagged or near else found.examples[:UNFLAGGED], near)


def wanted(aggregates: Aggregates) -> list[Wanted]:
    """Up to `MOST` images: the audit sample, then the first images of each sheet, then the second ones, and so on."""
    by_sheet: Iterable[tuple[Example, ...]] = chain.from_iterable(sheets(found) for found in aggregates.rules.values())
    ranked = (e for rank in zip_longest(*by_sheet) for e in rank if e is not None)
    images: Iterable[Wanted] = ((e.uri, e.etag, e.frame) for e in chain(aggregates.clean, ranked))
    return list(dict.fromkeys(images))[:MOST]

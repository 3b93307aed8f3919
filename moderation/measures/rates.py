"""Precision and recall from judged images, with intervals that hold for images chosen with different probabilities. Pure.

Images are in cells, parts of which a simple random sample was judged, or all. Everybody looks at what is in review; of what is
allowed or blocked, people see a random audit, besides single images that reach them in other ways (appeals, samples, earlier
decisions). Those single images are no sample of anything: they stand for themselves. Audited images stand for all others.

A share within a cell has Clopper and Pearson's (1934) interval, which also holds for the rare events that audits of allowed
images look for; Wilson's falls short there. Cells are combined by MOVER (`moderation.measures.intervals`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moderation.measures.intervals import CONFIDENCE, Shares, proportion, ratio


@dataclass(frozen=True, slots=True)
class Judged:
    """Images that people judged."""

    images: int = 0
    violates: int = 0

    def __add__(self, other: "Judged") -> "Judged":
        return Judged(self.images + other.images, self.violates + other.violates)


NOBODY = Judged()


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of all images, and those of it that were judged, a random sample or all."""

    images: float
    judged: Judged


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval."""

    value: float | None
    """None where nothing that counts for it was judged"""
    low: float
    high: float
    judged: int
    """images that it rests on"""
    unknown: int
    """images that it says nothing about: nobody judged a random sample of them"""


def cells(images: int, single: Judged, audits: Mapping[float, Judged]) -> list[Cell]:
    """The cells of allowed or blocked images.

    Args:
        images: how many there are.
        single: those judged that no audit chose; they stand for themselves.
        audits: those that only an audit chose, by weight: 1 / the probability that it chooses an image.
    """
    found = [Cell(single.images, single)] if single.images else []
    rest = max(images - single.images, sum(part.images for part in audits.values()))
    weights = sum(weight * part.images for weight, part in audits.items())
    if not weights:
        return [*found, *([Cell(rest, Judged())] if rest else [])]
    parts = [Cell(rest * weight * part.images / weights, part) for weight, part in audits.items() if part.images]
    return [*found, *parts]


def share(part: int, whole: int) -> Rate:
    """A share of a simple random sample."""
    if not whole:
        return Rate(None, 0.0, 1.0, 0, 0)
    low, high = proportion(np.array([part / whole]), whole, 1 - CONFIDENCE)
    return Rate(part / whole, float(low[0]), float(high[0]), whole, 0)


def precision(flagged: Sequence[Cell]) -> Rate:
    """The share of flagged images that truly violate."""
    return _rate([(cell, True) for cell in flagged], both=True)


def recall(flagged: Sequence[Cell], allowed: Sequence[Cell]) -> Rate:
    """The share of the images that violate which are flagged; unknown while no audit of allowed images was judged."""
    judged = sum(cell.judged.images for cell in flagged)
    missed = round(sum(cell.images for cell in allowed))
    if not missed and any(cell.judged.violates for cell in flagged):
        return Rate(1.0, 1.0, 1.0, judged, 0)  # everything is flagged
    if not any(cell.judged.images for cell in allowed):
        return Rate(None, 0.0, 1.0, judged, missed)
    return _rate([*((cell, True) for cell in flagged), *((cell, False) for cell in allowed)], both=False)


def _rate(parts: Sequence[tuple[Cell, bool]], *, both: bool) -> Rate:
    """`both`: images that do not violate count for the rest of the denominator; otherwise those that were not flagged do."""
    used = [(cell, flagged) for cell, flagged in parts if cell.judged.images]
    unknown = round(sum(cell.images for cell, _ in parts if not cell.judged.images))
    judged = sum(cell.judged.images for cell, _ in used)
    total = sum(cell.images for cell, _ in used)
    shares = []
    for cell, flagged in used:
        violating = np.array([cell.judged.violates / cell.judged.images])
        x, y = (violating, 1 - violating) if both else (violating, None) if flagged else (None, violating)
        shares.append(Shares(cell.images / total, cell.judged.images, x, y))
    if not shares:
        return Rate(None, 0.0, 1.0, 0, unknown)
    found = ratio(shares, 1 - CONFIDENCE)
    value = float(found.value[0])
    return Rate(value if np.isfinite(value) else None, float(found.low[0]), float(found.high[0]), judged, unknown)

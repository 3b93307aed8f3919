"""A sample as it is shown and written. Pure."""

from dataclasses import dataclass
from typing import Literal

from moderation.policy.schema import Policy, Rule
from moderation.results.archive import ModelRuns

StratumName = Literal["flagged", "near", "random"]
STRATA: tuple[StratumName, ...] = ("flagged", "near", "random")


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of all images, from which some were drawn by lot."""

    name: StratumName
    images: int
    """how many there are"""
    drawn: int
    """how many of them were drawn, each with the same chance"""
    pictures: int
    """how many different ones these are: those with the same bytes are labelled once"""

    @property
    def weight(self) -> float:
        """How many images each drawn one stands for."""
        return self.images / self.drawn if self.drawn else 0.0


@dataclass(frozen=True, slots=True)
class SampledImage:
    """An image to label."""

    uri: str
    etag: str
    frame: int
    """the frame that gave the rule its score, counted from 0"""
    stratum: StratumName
    weight: float
    """how many images it stands for: those of its stratum over those drawn, times the drawn ones with its bytes"""
    score: float
    """float32, the rule's highest over frames"""


@dataclass(frozen=True)
class Sample:
    """What was drawn for one rule."""

    policy: Policy
    rule: Rule
    asked: int
    seed: int
    archive: ModelRuns
    strata: tuple[Stratum, ...]
    nearest: bool
    """whether too few images lie within the policy's `near`, so that the stratum `near` holds the closest ones below"""
    images: tuple[SampledImage, ...]
    """in an order by chance, so that their place says nothing about their score or stratum"""
    errors: int
    """images without scores, of which none is drawn"""
    restricted: int = 0
    """images on a restricted hash list, which are left out"""

    @property
    def population(self) -> int:
        """All images with scores."""
        return sum(stratum.images for stratum in self.strata)

    @property
    def drawn(self) -> int:
        """Images that were drawn, those with the same bytes counted each."""
        return sum(stratum.drawn for stratum in self.strata)

"""The options of a scorer: one record on its way from the settings to the threads of each actor."""

from dataclasses import dataclass, field
from typing import Literal

from moderation.images.limits import ImageLimits

JpegDecoding = Literal["cpu", "gpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerOptions:
    """How images are fetched and decoded. The defaults of these settings stand here only.

    Each field is a setting of the same name: `RunSettings` says what it means to users and which values it may have, and hands
    all of them over with `scorer_options`. Nothing between there and where a field is used names it.
    """

    limits: ImageLimits = field(default_factory=ImageLimits)
    """what is too much of an image"""
    fetch_threads: int = 16
    """concurrent reads"""
    decode_threads: int | None = None
    """concurrent decodes; Pillow releases the GIL. None: the CPU cores"""
    jpeg_decoder: JpegDecoding = "cpu"
    """what decodes plain JPEGs in an actor; an `ImageScorer` is given its decoder"""

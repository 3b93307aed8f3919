"""What the pool keeps in its actors: a `Scorer`, made by a factory that travels to them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from moderation.model.engines import Engine
from moderation.policy.compiled import TextHead
from moderation.records import Batch, ScoredBatch
from moderation.scoring.exemplar_embeddings import Embedded
from moderation.scoring.flips import FlipCheck
from moderation.scoring.judging import RowContext


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What the driver must know of a model it does not load itself."""

    name: str
    fingerprint: str
    dim: int
    device: str
    head: TextHead
    engine: Engine | None = None
    """how it runs, for all actors alike; None where no model runs"""


class Scorer(Protocol):
    """What the pool keeps in its actors."""

    def describe(self, texts: list[str]) -> ModelDescription:
        """Load the model if need be, and embed `texts`."""
        ...

    def made(self, fingerprints: Collection[str]) -> frozenset[str]:
        """Those of the fingerprints that are this model's, in whatever precision and however resized."""
        ...

    def embed(self, images: Mapping[str, bytes]) -> Embedded:
        """Embeddings of exemplars, by their SHA-256, or why one cannot be decoded."""
        ...

    def score(self, batch: Batch, context: RowContext) -> ScoredBatch:
        """The rows of a batch. Called from several threads at a time."""
        ...

    def check(self, batch: Batch, context: RowContext) -> FlipCheck:
        """How a batch's first objects are decided in the run's precision and in fp32. Called before anything is scored."""
        ...


ScorerFactory = Callable[[], Scorer]

"""What a run works with: actors, their threads, the model's engine. And which of it was busiest."""

from collections.abc import Mapping
from dataclasses import dataclass

from moderation.cluster.sizing import PoolPlan, decode_threads
from moderation.model.engines import Engine
from moderation.results.manifest import EngineFacts
from moderation.scoring.flips import FlipCheck
from moderation.settings import RunSettings


@dataclass(frozen=True)
class Workforce:
    """The actors of a run."""

    settings: RunSettings
    plan: PoolPlan
    engine: Engine | None
    """how the model runs in them; None if none runs"""

    def __str__(self) -> str:
        facts = self.facts()
        if facts is None:
            return str(self.plan)
        return f"{self.plan}; {self.engine}, {facts.decode_threads} decode and {facts.torch_threads} torch threads"

    def facts(self, flips: FlipCheck | None = None) -> EngineFacts | None:
        """What the manifest keeps of it, and of a comparison with fp32."""
        if self.engine is None:
            return None
        return EngineFacts(
            kind=self.engine.kind,
            precision=self.engine.precision,
            batch_size=self.engine.batch_size,
            torch_threads=self.plan.torch_threads,
            decode_threads=decode_threads(self.settings, self.plan),
            why=self.engine.why,
            compared=flips.images if flips else None,
            flips=flips.flips if flips else None,
            lowest_cosine=round(flips.cosine, 6) if flips else None,
        )

    @property
    def threads(self) -> dict[str, int]:
        """How many threads work on a stage, over all actors; one on those that are not named."""
        actors = self.plan.actors
        return {
            "fetch": actors * self.settings.fetch_threads,
            "decode": actors * decode_threads(self.settings, self.plan),
            "encode": actors,
            "score": actors,
        }

    def bottleneck(self, seconds: Mapping[str, float]) -> str:
        """The stage with the most busy seconds per thread that works on it."""
        threads = self.threads
        return max(seconds, key=lambda stage: seconds[stage] / max(1, threads.get(stage, 1)), default="none")

"""What runs inside a Ray actor: one encoder, and the scorer for the run at hand."""

import threading
from dataclasses import dataclass

import pyarrow as pa

from moderation.images.limits import ImageLimits
from moderation.images.sources import ObjectReader
from moderation.model.encoder import Device, Encoder, Precision
from moderation.records import Batch, ScoredBatch
from moderation.scoring.image_scorer import ImageScorer, text_head
from moderation.scoring.judging import RowContext
from moderation.scoring.metrics import metrics
from moderation.scoring.scorer import ModelDescription, Scorer


@dataclass(frozen=True)
class OpenClipScorer:
    """A `ScorerFactory` with what an actor needs to build the real thing."""

    name: str
    pretrained: str | None
    reader: ObjectReader
    device: Device
    precision: Precision
    limits: ImageLimits
    fetch_threads: int
    decode_threads: int
    torch_threads: int

    def __call__(self) -> Scorer:
        """Load the model."""
        from moderation.model.open_clip_encoder import OpenClipEncoder  # noqa: PLC0415 - torch is loaded in actors only

        pa.array([""])  # pyarrow imports pandas at its first conversion: now, rather than while a batch waits
        encoder = OpenClipEncoder(
            self.name, self.pretrained, device=self.device, precision=self.precision, threads=self.torch_threads
        )
        return _Worker(self, encoder, str(encoder.device))


class _Worker:
    def __init__(self, options: OpenClipScorer, encoder: Encoder, device: str) -> None:
        self._options, self._encoder, self._device = options, encoder, device
        self._scorer: ImageScorer | None = None
        self._making = threading.Lock()

    def describe(self, texts: list[str]) -> ModelDescription:
        encoder = self._encoder
        return ModelDescription(encoder.name, encoder.fingerprint, encoder.dim, self._device, text_head(encoder, texts))

    def score(self, batch: Batch, context: RowContext) -> ScoredBatch:
        scored = self._scorer_for(context).score(batch.objects)
        metrics().scored(context.compiled.policy.policy, scored.summary)
        return scored

    def _scorer_for(self, context: RowContext) -> ImageScorer:
        with self._making:
            if self._scorer is None or self._scorer.context.run_id != context.run_id:
                options = self._options
                self._scorer = ImageScorer(
                    self._encoder,
                    context.compiled,
                    limits=options.limits,
                    fetch_threads=options.fetch_threads,
                    decode_threads=options.decode_threads,
                    run_id=context.run_id,
                    read=options.reader.read,
                    look_up=options.reader.look_up,
                )
            return self._scorer

"""What runs inside a Ray actor: one encoder, and the scorer for the run at hand."""

import os
import platform
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from moderation.cluster.metrics import metrics
from moderation.cluster.scorer import ModelDescription, Scorer
from moderation.errors import ModelError
from moderation.model.encoder import Device, Precision
from moderation.model.engines import CPU_BATCH, MAX_BATCH, Engine, EngineChoice
from moderation.model.preprocessing import Resize
from moderation.policy.model_choice import ModelChoice
from moderation.records import Batch, ScoredBatch
from moderation.scoring.exemplar_embeddings import Embedded, embed_images
from moderation.scoring.flips import CHECKED, FlipCheck, compared
from moderation.scoring.image_scorer import ImageScorer, text_head
from moderation.scoring.judging import RowContext
from moderation.scoring.options import ScorerOptions
from moderation.sources import ObjectReader

if TYPE_CHECKING:
    from moderation.model.gpu_jpeg.decoder import GpuJpegDecoder
    from moderation.model.open_clip_encoder import OpenClipEncoder


@dataclass(frozen=True)
class OpenClipScorer:
    """A `ScorerFactory` with what an actor needs to build the real thing."""

    model: ModelChoice
    reader: ObjectReader
    device: Device
    precision: Precision
    options: ScorerOptions
    torch_threads: int
    engine: EngineChoice = "auto"
    resize: Resize = "fast"
    max_batch: int = MAX_BATCH
    """images that are encoded at a time at most; more than come to an actor at a time would be padding"""
    gpu_share: float = 1.0
    """how much of its GPU's memory an actor has"""

    def __call__(self) -> Scorer:
        """Load the model."""
        # Threads of torch that wait for one another sleep, and leave the core to decoding. Read once, as torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from moderation.model.open_clip_encoder import OpenClipEncoder  # noqa: PLC0415 - torch is loaded in actors only

        pa.array([""])  # pyarrow imports pandas at its first conversion: now, rather than while a batch waits
        encoder = OpenClipEncoder.of(
            self.model,
            device=self.device,
            precision=self.precision,
            engine=self.engine,
            threads=self.torch_threads,
            resize=self.resize,
        )
        return _Worker(self, encoder)


class _Worker:
    def __init__(self, made: OpenClipScorer, encoder: "OpenClipEncoder") -> None:
        self._made, self._encoder = made, encoder
        self._jpeg_decoder: GpuJpegDecoder | None = None
        self._scorer: ImageScorer | None = None
        self._making = threading.Lock()

    def describe(self, texts: list[str]) -> ModelDescription:
        encoder = self._encoder
        engine = encoder.fit(most=self._made.max_batch, gpu_share=self._made.gpu_share)
        head = text_head(encoder, texts)
        return ModelDescription(encoder.name, encoder.fingerprint, encoder.dim, str(encoder.device), head, engine)

    def made(self, fingerprints: Collection[str]) -> frozenset[str]:
        return frozenset(filter(self._encoder.made, fingerprints))

    def embed(self, images: Mapping[str, bytes]) -> Embedded:
        return embed_images(self._encoder, images)

    def score(self, batch: Batch, context: RowContext) -> ScoredBatch:
        scored = self._scorer_for(context).score(batch.objects)
        metrics().scored(context.compiled.policy.policy, scored.summary)
        return scored

    def check(self, batch: Batch, context: RowContext) -> FlipCheck:
        objects = batch.objects[:CHECKED]
        fast = self._scorer_for(context).score(objects)
        engine = self._encoder.engine
        self._encoder.use(Engine("eager", "fp32", CPU_BATCH))
        try:
            with self._image_scorer(context) as scorer:
                return compared(scorer.score(objects), fast)
        finally:
            self._encoder.use(engine)

    def _scorer_for(self, context: RowContext) -> ImageScorer:
        with self._making:
            if self._scorer is None or self._scorer.context.run_id != context.run_id:
                if self._scorer is not None:
                    self._scorer.close()
                if context.engine is not None:
                    self._encoder.use(context.engine)
                self._check_model(context)
                self._scorer = self._image_scorer(context)
            return self._scorer

    def _image_scorer(self, context: RowContext) -> ImageScorer:
        made = self._made
        return ImageScorer(
            self._encoder,
            context.compiled,
            made.options,
            run_id=context.run_id,
            read=made.reader.read,
            look_up=made.reader.look_up,
            jpeg_decoder=self._gpu_decoder() if made.options.jpeg_decoder == "gpu" else None,
        )

    def _check_model(self, context: RowContext) -> None:
        """Refuse rows under another model's name: machines of a cluster may differ in what lies at the same path."""
        if self._encoder.fingerprint != context.fingerprint:
            raise ModelError(
                f"{self._encoder.name} has the fingerprint {self._encoder.fingerprint} on {platform.node()}, but the run uses "
                f"{context.fingerprint}, the fingerprint on another machine of the cluster",
                "put the same weights and the same version of open_clip on each machine",
            )

    def _gpu_decoder(self) -> "GpuJpegDecoder":
        """Made once the model has taken the memory that it wants, and compared with Pillow then."""
        from moderation.model.gpu_jpeg.decoder import GpuJpegDecoder  # noqa: PLC0415 - torch is loaded in actors only

        if self._jpeg_decoder is None:
            self._jpeg_decoder = GpuJpegDecoder(self._encoder.preprocessing, self._encoder, device=str(self._encoder.device))
        return self._jpeg_decoder

"""`ImageScorer`: images in, rows out. Runs anywhere: a notebook, a test, a Ray actor.

    refs ─► fetch threads ─► decode threads ─► batches ─► encode thread ─► score, decide ─► Arrow rows

The stages overlap, and so do calls: while one batch is on the device, the next objects are being fetched and decoded.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from moderation.model.encoder import Encoder
from moderation.model.jpeg_decoder import JpegDecoder
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.head_models import check_heads
from moderation.policy.schema import Policy
from moderation.records import BatchSummary, ObjectRef, ScoredBatch
from moderation.scoring.decision_rows import Embedded, Failure, build_rows
from moderation.scoring.exemplar_embeddings import embed_exemplars, embed_images
from moderation.scoring.judging import RowContext
from moderation.scoring.options import ScorerOptions
from moderation.scoring.preparing import Preparer
from moderation.scoring.shared_batches import Call, SharedBatches
from moderation.scoring.stage_clock import Clock
from moderation.storage import Store, file_uri

_DEFAULTS = ScorerOptions()


def text_head(encoder: Encoder, texts: list[str]) -> TextHead:
    """Embed prompts, for `CompiledPolicy.build`."""
    vectors = encoder.encode_texts(texts)
    return TextHead(dict(zip(texts, vectors, strict=True)), encoder.logit_scale, encoder.logit_bias)


def compiled_by(encoder: Encoder, policy: Policy) -> CompiledPolicy:
    """A policy with its prompts and exemplars embedded by a model. Raises `PolicyError`, as `CompiledPolicy.build`."""
    if policy.assets.heads:
        check_heads(policy, encoder.made)
    head = text_head(encoder, prompt_texts(policy))
    images = embed_exemplars(policy.assets.images, lambda files: embed_images(encoder, files))
    return CompiledPolicy.build(policy, replace(head, images=images))


class ImageScorer:
    """Scores images against one policy with one encoder. Thread-safe; `close()` ends its threads.

    Calls from several threads share them and the model's batches: the last images of one call are batched with the next call.

    Args:
        encoder: the model.
        policy: a policy, whose prompts are embedded here, or one compiled before.
        options: limits and threads.
        run_id: what the rows' `run_id` says.
        read: how an object's bytes are had; by default from wherever its URI points.
        look_up: how an object that is named by its URI only, with an empty ETag, is found; by default wherever the URI points.
        jpeg_decoder: a decoder to try before Pillow for JPEGs, for example on a GPU.
    """

    def __init__(
        self,
        encoder: Encoder,
        policy: Policy | CompiledPolicy,
        options: ScorerOptions = _DEFAULTS,
        *,
        run_id: str = "notebook",
        read: Callable[[ObjectRef], bytes] | None = None,
        look_up: Callable[[str], ObjectRef] | None = None,
        jpeg_decoder: JpegDecoder | None = None,
    ) -> None:
        if isinstance(policy, Policy):
            policy = compiled_by(encoder, policy)
        self.context = RowContext(run_id, policy, encoder.name, encoder.fingerprint)
        self._encoder = encoder
        self._batches = SharedBatches(encoder)
        self._preparer = Preparer(
            encoder.preprocessing,
            options,
            read=read or _read_anywhere,
            look_up=look_up or _look_up_anywhere,
            jpeg_decoder=jpeg_decoder,
            md5=policy.known_images.need_md5,
        )

    def __enter__(self) -> "ImageScorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, once they have done what they were given."""
        self._preparer.close()
        self._batches.close()

    def score(self, images: Sequence[str | Path | ObjectRef]) -> ScoredBatch:
        """Score images: paths, URIs, or objects as a listing gives them.

        Returns:
            Rows in the stored schemas: one decision per image, in any order; images that cannot be scored are error rows.
        """
        clock = Clock()
        refs = [image if isinstance(image, ObjectRef) else _reference(str(image)) for image in images]
        embedded: list[Embedded] = []
        failures: list[Failure] = []
        frames: dict[str, range] = {}  # by SHA-256 of the image: numbers of its vectors
        with Call(self._batches) as call, closing(self._preparer.prepared(refs, clock)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    continue
                embedded.append(outcome.row)
                if outcome.pixels:
                    frames[outcome.row.sha256] = range(call.added, call.added + len(outcome.pixels))
                    call.add(outcome.pixels)
        vectors, seconds = call.vectors()
        if vectors:
            clock.add("encode", seconds)
        matrix = np.concatenate(vectors) if vectors else np.empty((0, self._encoder.dim), np.float16)
        if len(frames) < len(embedded):
            matrix = matrix[[number for row in embedded for number in frames[row.sha256]]]
        with clock.measure("score"):
            rows = build_rows(self.context, embedded, matrix, failures, datetime.now(UTC))
        return replace(rows, summary=BatchSummary(rows.summary.counts, clock.seconds))


def _read_anywhere(ref: ObjectRef) -> bytes:
    store, key = Store.locate(ref.uri)
    return store.get(key, ref.etag or None)


def _look_up_anywhere(uri: str) -> ObjectRef:
    store, key = Store.locate(uri)
    return store.head(key)


def _reference(location: str) -> ObjectRef:
    """An image by path or URI. One that does not exist becomes an error row."""
    if "://" not in location:
        location = file_uri(str(Path(location).expanduser().absolute()))
    location = location.encode("utf-8", "backslashreplace").decode()  # Parquet takes nothing else
    return ObjectRef(location, "", 0, datetime.fromtimestamp(0, UTC))

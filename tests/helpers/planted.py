"""A scorer that does what names tell it to: `flag` is flagged, `error` cannot be read, `same` looks like every other `same`."""

import zlib

import numpy as np
from poisoned import NOW

from moderation.cluster.scorer import ModelDescription
from moderation.errors import ErrorCode
from moderation.policy.compiled import TextHead, prompt_texts
from moderation.records import Batch, ScoredBatch
from moderation.scoring.decision_rows import Embedded, Failure, build_rows
from moderation.scoring.judging import RowContext

DIM = 32


def head(texts: list[str]) -> TextHead:
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, len(texts))))[0].T.astype(np.float32)
    return TextHead(dict(zip(texts, vectors, strict=True)), 20.0, None)


class Planted:
    """A scorer, and its factory."""

    def __call__(self) -> "Planted":
        return self

    def describe(self, texts: list[str]) -> ModelDescription:
        return ModelDescription("none", "0" * 16, DIM, "cpu", head(texts))

    def score(self, batch: Batch, context: RowContext) -> ScoredBatch:
        texts = head(prompt_texts(context.compiled.policy)).texts
        rows, vectors, failures = [], [], []
        for item in batch.objects:
            name = item.uri.rpartition("/")[2]
            if name.startswith("error"):
                failures.append(Failure(item, ErrorCode.CORRUPT, "cut short"))
                continue
            noise = 0.0 if name.startswith("same") else 0.05
            vector = texts["a handgun" if name.startswith("flag") else "a wall"].copy()
            vector += np.random.default_rng(zlib.crc32(name.encode())).normal(scale=noise, size=DIM).astype(np.float32)
            rows.append(Embedded(item, f"{zlib.crc32(name.encode()):064x}", "PNG", 1, 1, 1, (0,)))
            vectors.append(vector / np.linalg.norm(vector))
        return build_rows(context, rows, np.array(vectors, np.float16).reshape(-1, DIM), failures, NOW)

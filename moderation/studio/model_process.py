"""A process that holds the model: `python -m moderation.studio.model_process RESULTS`.

It embeds texts and pictures, and checks policies, which needs the model's tokenizer. That way torch and decoders of hostile
pictures stay out of the server. One request per line of standard input, one answer per line of standard output, both JSON.
"""

import base64
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from moderation.authoring.check import check_draft
from moderation.errors import ModerationError
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy.model_choice import ModelChoice
from moderation.results.archive import open_archive
from moderation.scoring.prompt_embeddings import archive_encoder
from moderation.storage import Store
from moderation.studies.search.queries import picture_query

START = b"\x00answer "
PASS = 8
"""Texts of a forward pass, at most. Runs always fill larger ones, which takes seconds for a single text."""


class _Model:
    """Answers requests about the results of one output."""

    def __init__(self, results: str) -> None:
        self._output = Store(results)
        self._encoder = lru_cache(2)(self._loaded)

    def texts(self, fingerprint: str, model: str, texts: list[str]) -> dict[str, Any]:
        encoder = self._encoder(fingerprint, model)
        vectors = encoder.encode_texts(texts, min(len(texts), PASS)).astype(np.float32)
        return {"vectors": _packed(vectors), "dim": vectors.shape[1], "scale": encoder.logit_scale, "bias": encoder.logit_bias}

    def picture(self, fingerprint: str, model: str, data: str) -> dict[str, Any]:
        vectors = picture_query(self._encoder(fingerprint, model), base64.b64decode(data), "your picture").astype(np.float32)
        return {"vectors": _packed(vectors), "dim": vectors.shape[1]}

    def check(self, text: str, path: str) -> dict[str, Any]:
        checked = check_draft(text, Path(path), compare_prompts=False, today=datetime.now(UTC).date())
        return {"findings": [dataclasses.asdict(finding) for finding in checked.findings], "note": checked.note}

    def _loaded(self, fingerprint: str, model: str) -> OpenClipEncoder:
        archive = open_archive(self._output, fingerprint=fingerprint)
        return archive_encoder(archive, ModelChoice.model_validate_json(model))


def _packed(vectors: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(vectors).tobytes()).decode()


def _serve(model: _Model, questions: BinaryIO, answers: BinaryIO) -> None:
    kinds: dict[str, Callable[..., dict[str, Any]]] = {"texts": model.texts, "picture": model.picture, "check": model.check}
    for line in questions:
        asked = json.loads(line)
        try:
            found = kinds[asked.pop("kind")](**asked)
        except ModerationError as error:
            found = {"error": str(error)}
        answers.write(START + json.dumps(found).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    own = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not spoil the answers
    with os.fdopen(own, "wb") as out, contextlib.suppress(BrokenPipeError):
        _serve(_Model(sys.argv[1]), sys.stdin.buffer, out)

"""The model, in a process of its own that starts when it is first needed: it embeds texts and pictures, and checks policies."""

import base64
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.common.findings import Finding
from moderation.errors import ModelError, SettingsError
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.model_choice import ModelChoice
from moderation.policy.schema import Policy
from moderation.results.archive import Archive
from moderation.results.stored_exemplars import known_exemplars
from moderation.results.stored_prompts import known_prompts
from moderation.studio.line_process import LineProcess, ProcessDiedError

SECONDS = 180.0
"""Time for one request; the first one loads the model."""
TEXTS_KEPT = 20_000
START = b"\x00answer "

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""One text is too little for several threads, which wait for each other: on a busy machine ten times as long."""
Vectors = NDArray[np.float64]


class Model:
    """Embeds with the model that made an archive. Threads may ask at the same time. Nothing is stored with the results."""

    def __init__(self, results: str) -> None:
        self._process = LineProcess("moderation.studio.model_process", START, [results], _ONE_THREAD)
        self._texts: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self._logits: dict[str, tuple[float, float | None]] = {}
        self._lock = threading.Lock()
        self._checking = threading.Lock()
        self._checks = 0

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def check(self, text: str, path: Path) -> tuple[list[Finding], str]:
        """Mistakes and warnings in the text of a policy file at `path`, and what could not be checked.

        Nothing where a newer text came meanwhile: somebody types faster than a text is checked.
        """
        with self._lock:
            self._checks += 1
            mine = self._checks
        with self._checking:
            if mine != self._checks:
                return [], ""
            found = self._ask("check", text=text, path=str(path))
        return [Finding(**finding) for finding in found["findings"]], str(found["note"])

    def compiled(self, policy: Policy, archive: Archive) -> CompiledPolicy:
        """A policy ready to score an archive's embeddings.

        Raises:
            PolicyError, ModelError, SettingsError, OutputError: as `moderation.scoring.prompt_embeddings.compiled_for`.
        """
        head = self.head(archive, policy.model, prompt_texts(policy))
        images = known_exemplars(archive.output, archive.fingerprint, policy.assets.images) if policy.assets.images else {}
        new = [one.name for digest, one in policy.assets.images.items() if digest not in images]
        if new:
            raise ModelError(
                f"the exemplar {new[0]!r} is new: its effect shows once `moderate policy backtest` has embedded it"
            )
        return CompiledPolicy.build(policy, TextHead(head.texts, head.logit_scale, head.logit_bias, images))

    def head(self, archive: Archive, model: ModelChoice, texts: Sequence[str]) -> TextHead:
        """Embeddings of texts: from memory, from the results, or from the model. Raises `ModelError`, `SettingsError`."""
        fingerprint = archive.fingerprint
        with self._lock:
            missing = [text for text in texts if (fingerprint, text) not in self._texts]
        if missing or fingerprint not in self._logits:
            known = known_prompts(archive.output, fingerprint, list(texts))
            if known is not None:
                self._keep(fingerprint, known.texts, known.logit_scale, known.logit_bias)
                missing = [text for text in missing if text not in known.texts]
            if missing or known is None:
                new = missing or list(texts)
                found = self._ask("texts", fingerprint=fingerprint, model=model.model_dump_json(), texts=new)
                self._keep(fingerprint, dict(zip(new, _unpacked(found), strict=True)), found["scale"], found["bias"])
        with self._lock:
            scale, bias = self._logits[fingerprint]
            return TextHead({text: self._texts[fingerprint, text] for text in texts}, scale, bias)

    def text_query(self, archive: Archive, model: ModelChoice, text: str) -> Vectors:
        """A text as it is, as a unit vector [1, D]."""
        return _unit(self.head(archive, model, [text]).texts[text][None, :])

    def picture_query(self, archive: Archive, model: ModelChoice, data: bytes) -> Vectors:
        """A picture as unit vectors [frames, D]. Raises `SettingsError` if it cannot be decoded."""
        asked = base64.b64encode(data).decode()
        found = self._ask("picture", fingerprint=archive.fingerprint, model=model.model_dump_json(), data=asked)
        return _unit(_unpacked(found))

    def _keep(self, fingerprint: str, texts: Any, scale: float, bias: float | None) -> None:
        with self._lock:
            self._logits[fingerprint] = scale, bias
            for text, vector in texts.items():
                self._texts.setdefault((fingerprint, text), vector)
            while len(self._texts) > TEXTS_KEPT:
                self._texts.popitem(last=False)

    def _ask(self, kind: str, **values: Any) -> dict[str, Any]:
        try:
            answer = self._process.ask(json.dumps({"kind": kind, **values}).encode() + b"\n", SECONDS)
            found: dict[str, Any] = json.loads(answer)
        except (ProcessDiedError, ValueError):
            raise ModelError(
                "the process with the model died, or took too long: try again; `moderate policy check --download` fetches "
                "weights that this machine lacks"
            ) from None
        if "error" in found:
            raise SettingsError(str(found["error"]))
        return found


def _unpacked(found: dict[str, Any]) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(found["vectors"]), np.float32).reshape(-1, int(found["dim"]))


def _unit(vectors: NDArray[np.float32]) -> Vectors:
    doubles = vectors.astype(np.float64)
    found: Vectors = doubles / np.linalg.norm(doubles, axis=1, keepdims=True)
    return found

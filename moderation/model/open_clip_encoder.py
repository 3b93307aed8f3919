"""open_clip models as an `Encoder`: by name and pretrained tag, `hf-hub:…`, a local checkpoint, or the bundled demo model."""

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from moderation.errors import ModelError
from moderation.model.bf16 import with_bf16_tower
from moderation.model.catalog import count_tokens, facts_of, quiet
from moderation.model.compiling import compile_tower, uncompile_tower
from moderation.model.device_buffers import CpuLane, CudaLane, Lanes, Tower
from moderation.model.devices import abilities, cuda_memory, device_of
from moderation.model.encoder import Device, Precision
from moderation.model.engines import (
    ARITHMETICS,
    CPU_BATCH,
    MAX_BATCH,
    Engine,
    EngineChoice,
    arithmetic,
    check_engine,
    chosen_engine,
    fitting_batch,
)
from moderation.model.int8 import Int8Tower
from moderation.model.networks import activation, load, preprocessing_of
from moderation.model.preprocessing import DECODING, Resize
from moderation.policy.model_choice import ModelChoice

_CUDA_BATCH = 256
_TEXT_BATCH = 32


class OpenClipEncoder:
    """Any open_clip model, on the CPU or on one CUDA device. Images and texts may be encoded from several threads.

    It runs as its `engine` says: eager, in bf16 on GPUs that multiply in it and fp32 elsewhere, unless something else is asked
    for. `fit` makes the batch as large as the GPU takes; `use` takes a given engine.

    Args:
        name: `demo`, an open_clip architecture (`ViT-B-32`), `hf-hub:org/repo` or `local-dir:folder`.
        pretrained: for an architecture: a pretrained tag (`laion2b_s34b_b79k`) or the path of a checkpoint. Checkpoints are
            read as safetensors, or by torch with `weights_only`; nothing is unpickled.
        preprocess: for a checkpoint by its path, as in a policy's `model`: the tag that it was trained like, or values.
        quick_gelu: for a checkpoint by its path: whether it was trained with QuickGELU.
        device: `auto` takes CUDA where there is one; `cuda` without one is an error.
        precision: `fp32`, `bf16` (autocast on GPUs, a tower with bf16 weights on CPUs), `int8` (CPUs only, with the extra
            `cpu`), or `auto`. Texts are fp32 in all of them.
        engine: `eager`, `compiled` by torch.compile, CUDA `graphs`, or `auto`.
        threads: CPU threads that torch uses in this process; its own default otherwise.
        resize: `fast`, or `exact` with the bits of open_clip; part of the fingerprint.

    Raises:
        ModelError: unknown name or tag, weights that cannot be read, or of which nothing says how their pictures are prepared;
            no CUDA, no compiler or no ONNX Runtime where they were asked for.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        *,
        preprocess: str | Mapping[str, object] | None = None,
        quick_gelu: bool | None = None,
        device: Device = "auto",
        precision: Precision = "auto",
        engine: EngineChoice = "auto",
        threads: int | None = None,
        resize: Resize = "fast",
    ) -> None:
        said = {"name": name, "pretrained": pretrained, "preprocess": preprocess, "quick_gelu": quick_gelu}
        try:
            choice = ModelChoice.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        self._build(choice, device, precision, engine, threads, resize)

    @classmethod
    def of(
        cls,
        choice: ModelChoice,
        *,
        device: Device = "auto",
        precision: Precision = "auto",
        engine: EngineChoice = "auto",
        threads: int | None = None,
        resize: Resize = "fast",
    ) -> Self:
        """The model that a policy names: `policy.model`. Arguments and errors are those of the class."""
        encoder = cls.__new__(cls)
        encoder._build(choice, device, precision, engine, threads, resize)
        return encoder

    def _build(
        self,
        choice: ModelChoice,
        device: Device,
        precision: Precision,
        engine: EngineChoice,
        threads: int | None,
        resize: Resize,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device = device_of(device)
        self.name = choice.label
        facts = facts_of(choice)
        self._tokenizer = facts.tokenizer
        model = load(choice, facts)
        self.preprocessing = replace(preprocessing_of(model.visual.preprocess_cfg), resize=resize)
        self.logit_scale = float(model.logit_scale.exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias)
        described = [open_clip.get_model_config(facts.identifier), activation(choice, facts)]
        self._architecture = json.dumps(described, sort_keys=True)
        self._fingerprints: dict[str, str] = {}
        self._model = model.to(self.device)
        self._mean = torch.tensor(self.preprocessing.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(self.preprocessing.std, device=self.device).view(1, 3, 1, 1)
        self._machine = abilities(self.device)
        self._int8: Int8Tower | None = None
        self._lanes: Lanes | None = None
        self._changing = threading.Lock()
        self.dim = int(self.encode_texts(["a photo"]).shape[1])
        self.engine = chosen_engine(engine, precision, self._machine, _CUDA_BATCH if self._machine.cuda else CPU_BATCH)
        if self.engine.kind != "eager":
            self.use(self.engine)

    @property
    def batch_size(self) -> int:
        """How many images one forward pass takes."""
        return self.engine.batch_size

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights, architecture, preprocessing and precision."""
        return self._fingerprint(arithmetic(self.engine.precision, cuda=self._machine.cuda))

    def made(self, fingerprint: str) -> bool:
        """Whether embeddings of that fingerprint are this model's, in whatever precision and however resized.

        Then its texts, and the heads that were learned from them, belong to its other embeddings too.
        """
        return self.made_alike(fingerprint) or any(
            self._fingerprint(way, "exact" if self.preprocessing.resize == "fast" else "fast") == fingerprint
            for way in ARITHMETICS
        )

    def made_alike(self, fingerprint: str) -> bool:
        """The same, but only of pictures that were resized as here: then its own embeddings of images belong to them too."""
        return any(self._fingerprint(way) == fingerprint for way in ARITHMETICS)

    def _fingerprint(self, way: str, resize: Resize | None = None) -> str:
        preprocessing = replace(self.preprocessing, resize=resize or self.preprocessing.resize)
        key = f"{way} {preprocessing.resize}"
        if key not in self._fingerprints:
            described = f"{self._architecture} {preprocessing} {DECODING} {way}"
            if preprocessing.resize == "fast":  # `exact` is what there was before there was a choice
                described += " resize fast"
            self._fingerprints[key] = _fingerprint(self._model, described)
        return self._fingerprints[key]

    def fit(self, *, most: int = MAX_BATCH, gpu_share: float = 1.0) -> Engine:
        """Make the batch as large as a GPU takes, by how much memory it has; on a CPU nothing changes.

        Args:
            most: more images than this are never encoded at a time.
            gpu_share: how much of the GPU's memory is ours.

        Raises:
            ModelError: others have so much of the GPU that the batch does not fit.
        """
        if self._machine.cuda:
            tower = self._tower(self.engine)
            memory, per_image, free = cuda_memory(tower, self.preprocessing.size, self.device, gpu_share)
            rivals = 2 if self.engine.kind == "graphs" else 1
            batch = fitting_batch(memory / rivals, per_image, most)
            if batch * per_image * rivals > free:
                raise ModelError(
                    f"{batch} pictures per batch need {batch * per_image * rivals / 2**30:.1f} GiB of the GPU, of which "
                    f"{free / 2**30:.1f} GiB are free",
                    "stop other programs on it, or set our share of it with `gpus_per_actor`",
                )
            self.use(replace(self.engine, batch_size=batch))
        return self.engine

    def use(self, engine: Engine) -> None:
        """Run as this engine says from now on. Nothing may be under way.

        Raises:
            ModelError: it cannot run here.
        """
        check_engine(engine.kind, self._machine)
        with self._changing:
            if engine == self.engine and self._lanes is not None:
                return
            try:
                lanes = self._prepared(engine)
            except Exception as error:
                uncompile_tower(self._model.visual)
                if engine.kind == "eager" or isinstance(error, ModelError):
                    raise
                reason = " ".join(str(error).split())[:300]
                raise ModelError(f"{self.name} cannot run {engine.kind} here: {reason}: use the engine `eager`") from None
            self.engine, self._lanes = engine, lanes

    def start(self, pixels: Sequence[NDArray[np.uint8]]) -> Callable[[], NDArray[np.float32]]:
        """Begin to encode 1 to `batch_size` pictures, uint8 RGB [S, S, 3] each; they may be changed once this returns.

        Returns:
            A function that waits for the unit embeddings, float32 [N, D] in the same order, from any thread.

        On a GPU two batches may be under way; a third call waits for the first. On the CPU all is done when this returns.
        """
        with self._changing:
            if self._lanes is None:
                self._lanes = self._prepared(self.engine)
            lanes = self._lanes
        return lanes.start(pixels)

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [N, S, S, 3] to unit embeddings float32 [N, D], `batch_size` images to a forward pass."""
        size, batch = self.preprocessing.size, self.batch_size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"expected uint8 [N, {size}, {size}, 3], got {pixels.dtype} {list(pixels.shape)}")
        found = np.empty((len(pixels), self.dim), np.float32)
        started: deque[tuple[int, Callable[[], NDArray[np.float32]]]] = deque()
        for first in range(0, len(pixels), batch):
            started.append((first, self.start(list(pixels[first : first + batch]))))
            if len(started) > 1:
                _take(started, found)
        while started:
            _take(started, found)
        return found

    def encode_texts(self, texts: list[str], pass_size: int = _TEXT_BATCH) -> NDArray[np.float32]:
        """Texts to unit embeddings float32 [N, D], always as many to a forward pass: a result does not depend on its batch.

        Another `pass_size` differs in the last digits: for what is shown and not kept.
        """
        limit = int(getattr(self._tokenizer, "context_length", None) or 77)
        for text in texts:
            count = count_tokens(self._tokenizer, text)
            if count > limit:
                raise ModelError(f"the prompt {text!r} has {count} tokens; {self.name} reads {limit}: shorten it")
        found = []
        with torch.inference_mode():
            for i in range(0, len(texts), pass_size):
                batch = texts[i : i + pass_size]
                tokens = self._tokenizer(batch + [""] * (pass_size - len(batch))).to(self.device)
                found.append(self._model.encode_text(tokens, normalize=True)[: len(batch)].float().cpu().numpy())
        return np.concatenate(found) if found else np.empty((0, self.dim), np.float32)

    def _tower(self, engine: Engine) -> Tower:
        """uint8 [B, S, S, 3] to unit embeddings; normalised with the arithmetic of torchvision's ToTensor and Normalize."""
        kind, half, features_of = self.device.type, engine.precision == "bf16", self._image_side(engine)

        def tower(pixels: torch.Tensor) -> torch.Tensor:
            # Each weight is used once in a pass: a cache of casts is of no use, and must not be recorded into a graph.
            autocast = torch.autocast(kind, torch.bfloat16, enabled=half and self._machine.cuda, cache_enabled=False)
            with torch.inference_mode(), autocast:
                # Channels first in memory too, while it is bytes: otherwise each step, and the first layer, jumps about.
                images = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)
                images = images.div_(255).sub_(self._mean).div_(self._std)
                return torch.nn.functional.normalize(features_of(images).float(), dim=-1)

        return tower

    def _image_side(self, engine: Engine) -> Callable[[torch.Tensor], torch.Tensor]:
        """Normalised pictures, float32 [B, 3, S, S], to features [B, D]."""
        uncompile_tower(self._model.visual)
        model = self._model
        if engine.precision == "int8":
            self._int8 = self._int8 or Int8Tower(model, self.preprocessing.size, torch.get_num_threads())
            return self._int8
        if engine.precision == "bf16" and not self._machine.cuda:
            model = with_bf16_tower(model)
        if engine.kind == "compiled":
            compile_tower(model.visual)
        dtype = torch.float32 if model is self._model else torch.bfloat16
        return lambda images: model.encode_image(images.to(dtype), normalize=False)

    def _prepared(self, engine: Engine) -> Lanes:
        batch, size, tower = engine.batch_size, self.preprocessing.size, self._tower(engine)
        if engine.kind == "compiled":
            with quiet():
                tower(torch.zeros((batch, size, size, 3), dtype=torch.uint8, device=self.device))
        if not self._machine.cuda:
            return Lanes([CpuLane(tower, batch, size)])
        copying, computing = (torch.cuda.Stream(self.device) for _ in range(2))  # type: ignore[no-untyped-call]
        graph = engine.kind == "graphs"
        return Lanes([CudaLane(tower, batch, size, self.dim, copying, computing, graph=graph) for _ in range(2)])


def _take(started: deque[tuple[int, Callable[[], NDArray[np.float32]]]], found: NDArray[np.float32]) -> None:
    first, wait = started.popleft()
    vectors = wait()
    found[first : first + len(vectors)] = vectors


def _fingerprint(model: torch.nn.Module, description: str) -> str:
    digest = hashlib.sha256(description.encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]

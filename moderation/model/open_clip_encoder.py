"""open_clip models as an `Encoder`: by name and pretrained tag, `hf-hub:…`, a local checkpoint, or the bundled demo model."""

import hashlib
import json
import logging
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from moderation.errors import ModelError
from moderation.model.catalog import count_tokens, facts_of, quiet
from moderation.model.compiling import compile_tower, uncompile_tower
from moderation.model.devices import abilities, cuda_memory, device_of
from moderation.model.encoder import Device, Precision
from moderation.model.engines import (
    CPU_BATCH,
    MAX_BATCH,
    Engine,
    EngineChoice,
    Trial,
    choose,
    default_engine,
    fitting_batch,
)
from moderation.model.lanes import CpuLane, CudaLane, Lanes, Tower
from moderation.model.preprocessing import DECODING, Preprocessing

_log = logging.getLogger(__name__)

_CUDA_BATCH = 256
_TEXT_BATCH = 32
_TRIAL_PASSES, _TRIAL_S = 3, 2.0
"""An engine is tried by so many forward passes, fewer if they take this long."""


class OpenClipEncoder:
    """Any open_clip model, on the CPU or on one CUDA device. Images and texts may be encoded from several threads.

    It runs as its `engine` says: eager, in bf16 on CUDA and fp32 on the CPU, unless something else is asked for. `tune` looks
    for a faster one; `use` takes a given one.

    Args:
        name: `demo`, an open_clip architecture (`ViT-B-32`), `hf-hub:org/repo` or `local-dir:folder`.
        pretrained: for an architecture: a pretrained tag (`laion2b_s34b_b79k`) or the path of a checkpoint. Checkpoints are
            read as safetensors, or by torch with `weights_only`; nothing is unpickled.
        device: `auto` takes CUDA where there is one; `cuda` without one is an error.
        precision: `fp32`, `bf16` autocast, or `auto`.
        engine: `eager`, `compiled` by torch.compile, CUDA `graphs`, or `auto`.
        threads: CPU threads that torch uses in this process; its own default otherwise.

    Raises:
        ModelError: unknown name or tag, weights that cannot be had or read, no CUDA or no compiler where they were asked for.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        *,
        device: Device = "auto",
        precision: Precision = "auto",
        engine: EngineChoice = "auto",
        threads: int | None = None,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device = device_of(device)
        self.name = f"{name}/{pretrained}" if pretrained else name
        facts = facts_of(name, pretrained)
        self._tokenizer = facts.tokenizer
        identifier = facts.identifier
        model = _load(name, pretrained, identifier)
        self.preprocessing = _preprocessing(model.visual.preprocess_cfg)
        self.logit_scale = float(model.logit_scale.exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias)
        self._architecture = json.dumps([open_clip.get_model_config(identifier), _quick_gelu(name, pretrained)], sort_keys=True)
        self._fingerprints: dict[str, str] = {}
        self._model = model.to(self.device)
        self._mean = torch.tensor(self.preprocessing.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(self.preprocessing.std, device=self.device).view(1, 3, 1, 1)
        self._asked = engine, precision
        self._machine = abilities(self.device, model.visual)
        self._lanes: Lanes | None = None
        self._changing = threading.Lock()
        self.dim = int(self.encode_texts(["a photo"]).shape[1])
        self.engine = default_engine(engine, precision, self._machine, _CUDA_BATCH if self._machine.cuda else CPU_BATCH)
        if self.engine.kind != "eager":
            self.use(self.engine)

    @property
    def batch_size(self) -> int:
        """How many images one forward pass takes."""
        return self.engine.batch_size

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights, architecture, preprocessing and precision."""
        precision = self.engine.precision
        if precision not in self._fingerprints:
            described = f"{self._architecture} {self.preprocessing} {DECODING} {precision}"
            self._fingerprints[precision] = _fingerprint(self._model, described)
        return self._fingerprints[precision]

    def tune(self, *, most: int = MAX_BATCH, gpu_share: float = 1.0) -> Engine:
        """Look for the fastest engine among those that were asked for, by seconds of trying, and use it from now on.

        On a CPU that multiplies in bf16 the precision may change, and the fingerprint with it, as far as it was left to `auto`.

        Args:
            most: more images than this are never encoded at a time.
            gpu_share: how much of the GPU's memory is ours.
        """
        batch_size = CPU_BATCH
        if self._machine.cuda:
            tower = self._tower(self.engine)
            memory, per_image = cuda_memory(tower, self.preprocessing.size, self.device, gpu_share)
            batch_size = fitting_batch(memory / (2 if self.engine.kind == "graphs" else 1), per_image, most)
        tried: list[NDArray[np.float32]] = []
        self.use(choose(*self._asked, self._machine, batch_size, lambda engine: self._try(engine, tried)))
        return self.engine

    def use(self, engine: Engine) -> None:
        """Run as this engine says from now on. Nothing may be under way.

        Raises:
            ModelError: it cannot run here.
        """
        default_engine(engine.kind, engine.precision, self._machine)
        with self._changing:
            if engine == self.engine and self._lanes is not None:
                return
            try:
                lanes = self._prepared(engine)
            except Exception as error:
                uncompile_tower(self._model.visual)
                if engine.kind == "eager":
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
            raise ValueError(f"uint8 [N, {size}, {size}, 3] expected, got {pixels.dtype} {list(pixels.shape)}")
        found = np.empty((len(pixels), self.dim), np.float32)
        started: deque[tuple[int, Callable[[], NDArray[np.float32]]]] = deque()
        for first in range(0, len(pixels), batch):
            started.append((first, self.start(list(pixels[first : first + batch]))))
            if len(started) > 1:
                _take(started, found)
        while started:
            _take(started, found)
        return found

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Texts to unit embeddings float32 [N, D], always as many to a forward pass: a result does not depend on its batch."""
        limit = int(getattr(self._tokenizer, "context_length", None) or 77)
        for text in texts:
            count = count_tokens(self._tokenizer, text)
            if count > limit:
                raise ModelError(f"the prompt {text!r} has {count} tokens; {self.name} reads {limit}: shorten it")
        found = []
        with torch.inference_mode():
            for i in range(0, len(texts), _TEXT_BATCH):
                batch = texts[i : i + _TEXT_BATCH]
                tokens = self._tokenizer(batch + [""] * (_TEXT_BATCH - len(batch))).to(self.device)
                found.append(self._model.encode_text(tokens, normalize=True)[: len(batch)].float().cpu().numpy())
        return np.concatenate(found) if found else np.empty((0, self.dim), np.float32)

    def _tower(self, engine: Engine) -> Tower:
        """uint8 [B, S, S, 3] to unit embeddings; normalised with the arithmetic of torchvision's ToTensor and Normalize."""
        kind, half = self.device.type, engine.precision == "bf16"

        def tower(pixels: torch.Tensor) -> torch.Tensor:
            # Each weight is used once in a pass: a cache of casts is of no use, and must not be recorded into a graph.
            with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=half, cache_enabled=False):
                # Channels first in memory too, while it is bytes: otherwise each step, and the first layer, jumps about.
                images = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)
                images = images.div_(255).sub_(self._mean).div_(self._std)
                features = self._model.encode_image(images, normalize=False).float()
                return torch.nn.functional.normalize(features, dim=-1)

        return tower

    def _prepared(self, engine: Engine) -> Lanes:
        uncompile_tower(self._model.visual)
        batch, size, tower = engine.batch_size, self.preprocessing.size, self._tower(engine)
        if engine.kind == "compiled":
            compile_tower(self._model.visual)
            with quiet():
                tower(torch.zeros((batch, size, size, 3), dtype=torch.uint8, device=self.device))
        if not self._machine.cuda:
            return Lanes([CpuLane(tower, batch, size)])
        copying, computing = (torch.cuda.Stream(self.device) for _ in range(2))  # type: ignore[no-untyped-call]
        graph = engine.kind == "graphs"
        return Lanes([CudaLane(tower, batch, size, self.dim, copying, computing, graph=graph) for _ in range(2)])

    def _try(self, engine: Engine, tried: list[NDArray[np.float32]]) -> Trial | None:
        """Run an engine for a moment; `tried` keeps the embeddings of the first one, which others are compared with."""
        size, count = self.preprocessing.size, engine.batch_size
        pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
        try:
            self.use(engine)
        except ModelError as error:
            _log.warning("%s", error)
            return None
        vectors = self.encode_images(pixels)
        passes: list[float] = []
        while len(passes) < _TRIAL_PASSES and sum(passes) < _TRIAL_S:
            began = time.process_time()  # a neighbour who takes the cores for a while changes no choice
            self.encode_images(pixels)
            passes.append((time.process_time() - began) / torch.get_num_threads())
        tried.append(vectors)
        return Trial(min(passes) / count, float((tried[0] * vectors).sum(axis=1).min()))


def _take(started: deque[tuple[int, Callable[[], NDArray[np.float32]]]], found: NDArray[np.float32]) -> None:
    first, wait = started.popleft()
    vectors = wait()
    found[first : first + len(vectors)] = vectors


def _load(name: str, pretrained: str | None, identifier: str) -> Any:
    """The model, in evaluation mode."""
    try:
        with quiet():
            model = open_clip.create_model(
                identifier,
                pretrained=pretrained,
                require_pretrained=True,
                force_quick_gelu=_quick_gelu(name, pretrained),
                weights_only=True,
            )
    except Exception as error:  # noqa: BLE001 - open_clip, the hub client, safetensors and torch share no base class
        reason = " ".join(str(error).split())[:300]
        if isinstance(error, pickle.UnpicklingError):  # torch would advise to trust the file
            reason = "the checkpoint holds more than weights, and nothing is unpickled here: convert it to safetensors"
        raise ModelError(f"cannot load the model {name!r}{f' ({pretrained})' if pretrained else ''}: {reason}") from None
    return model.eval().requires_grad_(requires_grad=False)


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    size = config["size"]
    if isinstance(size, list | tuple):
        if size[0] != size[1]:
            raise ModelError(f"the model takes pictures of {size[0]}x{size[1]}; only square ones are supported")
        size = size[0]
    return Preprocessing(
        size=int(size),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        resize_mode=config["resize_mode"],
        fill=int(config.get("fill_color") or 0),
    )


def _quick_gelu(name: str, pretrained: str | None) -> bool:
    """Whether the weights were trained with QuickGELU; open_clip only warns when architecture and tag differ in it."""
    return bool(pretrained and open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))


def _fingerprint(model: torch.nn.Module, description: str) -> str:
    digest = hashlib.sha256(description.encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]

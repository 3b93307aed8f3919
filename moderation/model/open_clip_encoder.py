"""open_clip models as an `Encoder`: by name and pretrained tag, `hf-hub:…`, a local checkpoint, or the bundled demo model."""

import hashlib
import json
import pickle
from typing import Any, cast

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from moderation.errors import ModelError
from moderation.model.catalog import count_tokens, facts_of, quiet
from moderation.model.encoder import Device, Precision
from moderation.model.preprocessing import Preprocessing

_CPU_BATCH, _CUDA_BATCH = 16, 256
_TEXT_BATCH = 32


class OpenClipEncoder:
    """Any open_clip model, on the CPU or on one CUDA device.

    Args:
        name: `demo`, an open_clip architecture (`ViT-B-32`), `hf-hub:org/repo` or `local-dir:folder`.
        pretrained: for an architecture: a pretrained tag (`laion2b_s34b_b79k`) or the path of a checkpoint. Checkpoints are
            read as safetensors, or by torch with `weights_only`; nothing is unpickled.
        device: `auto` takes CUDA where there is one; `cuda` without one is an error.
        precision: `auto` is bf16 autocast on CUDA and fp32 on the CPU.
        threads: CPU threads that torch uses in this process; its own default otherwise.

    Raises:
        ModelError: unknown name or tag, weights that cannot be had or read, no CUDA where it was asked for.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        *,
        device: Device = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device = _device(device)
        self.precision = ("bf16" if self.device.type == "cuda" else "fp32") if precision == "auto" else precision
        self.batch_size = _CUDA_BATCH if self.device.type == "cuda" else _CPU_BATCH
        self.name = f"{name}/{pretrained}" if pretrained else name
        facts = facts_of(name, pretrained)
        self._tokenizer = facts.tokenizer
        identifier = facts.identifier
        model = _load(name, pretrained, identifier)
        self.preprocessing = _preprocessing(model.visual.preprocess_cfg)
        self.logit_scale = float(model.logit_scale.exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias)
        architecture = json.dumps([open_clip.get_model_config(identifier), _quick_gelu(name, pretrained)], sort_keys=True)
        self.fingerprint = _fingerprint(model, f"{architecture} {self.preprocessing} {self.precision}")
        self._model = model.to(self.device)
        self._mean = torch.tensor(self.preprocessing.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(self.preprocessing.std, device=self.device).view(1, 3, 1, 1)
        self.dim = int(self.encode_texts(["a photo"]).shape[1])

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [N, S, S, 3] to unit embeddings float32 [N, D], `batch_size` images to a forward pass."""
        size = self.preprocessing.size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"uint8 [N, {size}, {size}, 3] expected, got {pixels.dtype} {list(pixels.shape)}")
        found = [self._encode_batch(pixels[i : i + self.batch_size]) for i in range(0, len(pixels), self.batch_size)]
        return np.concatenate(found) if found else np.empty((0, self.dim), np.float32)

    def normalized(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """The model's input, float32 [N, 3, S, S], with the arithmetic of torchvision's ToTensor and Normalize."""
        batch = torch.from_numpy(np.ascontiguousarray(pixels))
        if self.device.type == "cuda":
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        return batch.permute(0, 3, 1, 2).to(torch.float32).div(255).sub(self._mean).div(self._std)

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

    def _encode_batch(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        count = len(pixels)
        if count < self.batch_size:
            padding = np.zeros((self.batch_size - count, *pixels.shape[1:]), np.uint8)
            pixels = np.concatenate([pixels, padding])
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            features = self._model.encode_image(self.normalized(pixels), normalize=False).float()
            features = torch.nn.functional.normalize(features, dim=-1)
        return cast("NDArray[np.float32]", features[:count].cpu().numpy())


def _device(device: Device) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device `cuda` was asked for, but torch sees no CUDA device here: use `--device cpu`, or a GPU node")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


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
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]

"""Models of random weights to measure with, alone and as an `Encoder`. Random weights cost as much to run as trained ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch

from benchmarks.random_models import save_model
from moderation.demo import MODEL_DIR
from moderation.model.open_clip_encoder import OpenClipEncoder

_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}


def random_model(name: str, folder: Path) -> str:
    """Save an open_clip architecture with random weights; returns what open_clip knows it by. `demo` is the bundled model.

    The text tower is a small one, whose tokenizer need not be fetched: only images are measured.
    """
    if name == "demo":
        return f"local-dir:{MODEL_DIR}"
    config = {**open_clip.get_model_config(name), "text_cfg": _TEXT}
    parts = {key: value for key, value in config.items() if key != "custom_text"}
    torch.manual_seed(0)
    model = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**parts)
    known = open_clip.get_pretrained_cfg(name, open_clip.list_pretrained_tags_by_model(name)[0])
    how = {key: known[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in known}
    how["size"] = config["vision_cfg"]["image_size"]
    return save_model(model, folder, config, how)


class BareModel:
    """The forward pass of an eager `OpenClipEncoder` alone, on random uint8 pixels that are on the device already."""

    def __init__(self, identifier: str, encoder: OpenClipEncoder) -> None:
        self._encoder = encoder
        self._model = open_clip.create_model(identifier).eval().requires_grad_(requires_grad=False).to(encoder.device)
        side = encoder.preprocessing.size
        self._pixels = torch.randint(0, 256, (encoder.batch_size, side, side, 3), dtype=torch.uint8, device=encoder.device)
        self._mean = torch.tensor(encoder.preprocessing.mean, device=encoder.device).view(1, 3, 1, 1)
        self._std = torch.tensor(encoder.preprocessing.std, device=encoder.device).view(1, 3, 1, 1)

    def run(self, count: int) -> None:
        """Encode `count` images, in whole batches."""
        bf16 = self._encoder.engine.precision == "bf16"
        with torch.inference_mode(), torch.autocast(self._encoder.device.type, torch.bfloat16, enabled=bf16):
            for _ in range(0, count, self._encoder.batch_size):
                pixels = self._pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)
                pixels = pixels.div_(255).sub_(self._mean).div_(self._std)
                found = torch.nn.functional.normalize(self._model.encode_image(pixels, normalize=False).float(), dim=-1)
        found.cpu()


def encode(encoder: OpenClipEncoder, count: int) -> None:
    """Encode random pixels from the host, in whole batches, two of them under way at a time."""
    side = encoder.preprocessing.size
    pixels = list(np.random.default_rng(0).integers(0, 256, (encoder.batch_size, side, side, 3), np.uint8))
    waiting: list[Callable[[], object]] = []
    for _ in range(0, count, encoder.batch_size):
        waiting.append(encoder.start(pixels))
        if len(waiting) == 2:
            waiting.pop(0)()
    for wait in waiting:
        wait()

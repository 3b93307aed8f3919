"""open_clip as its README uses it: what the peers' loops call."""

import io
import time

import numpy as np
import open_clip
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.peers.work import all_prompts

Columns = dict[str, NDArray[np.generic]]


class Clip:
    """A model, its preprocessing, and the embedded prompts."""

    def __init__(self, model: str) -> None:
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(model)
        self.model.eval()
        tokens = open_clip.get_tokenizer(model)(all_prompts())
        with torch.inference_mode():
            self.prompts = self.model.encode_text(tokens, normalize=True)
            self.scale = self.model.logit_scale.exp()

    def __call__(self, pixels: torch.Tensor) -> Columns:
        """Normalized pictures, float32 [N, 3, S, S], as columns `embedding`, `scores` and `scored_at`."""
        with torch.inference_mode():
            features = self.model.encode_image(pixels, normalize=True)
            scores = (self.scale * features @ self.prompts.T).softmax(dim=-1)
        return {
            "embedding": features.numpy(),
            "scores": scores.numpy(),
            "scored_at": np.full(len(pixels), time.time()),
        }


def opened(image: str | bytes) -> Image.Image:
    """A picture by its path, or by the bytes of its file."""
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)


def rows(images: list[str], columns: Columns) -> pa.Table:
    """The rows of a batch."""
    return pa.table(
        {
            "uri": images,
            "embedding": pa.FixedSizeListArray.from_arrays(columns["embedding"].ravel(), columns["embedding"].shape[1]),
            "scores": pa.FixedSizeListArray.from_arrays(columns["scores"].ravel(), columns["scores"].shape[1]),
            "scored_at": columns["scored_at"],
        }
    )

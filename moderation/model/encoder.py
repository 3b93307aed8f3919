"""What scoring needs of a model. Anything with these members can score images."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from moderation.model.preprocessing import Preprocessing

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "int8"]


class Encoder(Protocol):
    """A two-tower model that puts images and texts into one space of unit vectors."""

    @property
    def name(self) -> str:
        """For people, e.g. `ViT-B-32/openai`."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights, architecture, preprocessing and precision: equal ones give equal embeddings."""
        ...

    def made(self, fingerprint: str) -> bool:
        """Whether embeddings of that fingerprint are this model's, in whatever precision and however resized."""
        ...

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the uint8 array that `encode_images` takes."""
        ...

    @property
    def batch_size(self) -> int:
        """How many images one forward pass takes; fewer are padded, so that a result never depends on its batch."""
        ...

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with to become logits."""
        ...

    @property
    def logit_bias(self) -> float | None:
        """What is added to logits; None for models trained with softmax."""
        ...

    def start(self, pixels: Sequence[NDArray[np.uint8]]) -> Callable[[], NDArray[np.float32]]:
        """Begin to encode 1 to `batch_size` pictures, uint8 RGB [S, S, 3] each; they may be changed once this returns.

        Returns:
            A function that waits for the unit embeddings, float32 [N, D] in the same order. Call it once, from any thread.

        On a GPU it returns before they are there, and the caller prepares the next batch meanwhile; two batches may be under
        way, and a third call waits for the first. On the CPU it may return when all is done. Thread-safe.
        """
        ...

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [N, S, S, 3] to unit embeddings float32 [N, D]."""
        ...

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Texts to unit embeddings float32 [N, D]. A text over the model's token limit raises `ModelError`."""
        ...

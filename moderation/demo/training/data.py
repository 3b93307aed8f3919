"""What a training step sees: one caption and one picture for each concept of the batch.

No concept is twice in a batch, so that everything else in it is a true negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from moderation.demo.training.concepts import Concept
from moderation.demo.training.render import render_for_model, rng_for

TEMPLATES = (
    "{}",
    "a {}",
    "a photo of {}",
    "a photo of a {}",
    "a picture of {}",
    "a picture of a {}",
    "a blurry photo of a {}",
    "a close-up of a {}",
    "an image of {}",
    "an emoji of {}",
    "a drawing of a {}",
    "the {}",
)
# How often a caption is CLDR's name, the Unicode name, another name, and a wider word such as "animal".
NAME, UNICODE, OTHER, WIDER = 0.40, 0.12, 0.44, 0.04
FRESH = 0.25  # share of newly rendered pictures; the others come from the last POOL of the same concept
POOL = 40
SHIFT = 3  # pixels by which a picture is moved each time it is used


class Captions:
    """Every caption in every template, tokenized once, over only the tokens that occur.

    Training the other 90 % of the vocabulary's embeddings would be half of the work and change nothing.
    """

    def __init__(self, concepts: Sequence[Concept], context_length: int) -> None:
        words = sorted({word for c in concepts for word in (*c.captions, *c.categories)})
        tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
        tokens = tokenizer([template.format(word) for word in words for template in TEMPLATES])
        self.used, compact = torch.unique(tokens, return_inverse=True)  # sorted: the end token stays the highest
        self.tokens = compact.reshape(len(words), len(TEMPLATES), -1)
        number = {word: place for place, word in enumerate(words)}
        self._name = [number[c.captions[0]] for c in concepts]
        self._unicode = [number[c.captions[min(1, len(c.captions) - 1)]] for c in concepts]
        self._other = [[number[word] for word in c.captions] for c in concepts]
        self._wider = [[number[word] for word in c.categories] or [number[c.captions[0]]] for c in concepts]

    def sample(self, concepts: NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
        """One caption for each concept: int64 [N, context_length] of compact tokens."""
        kinds = rng.choice(4, size=len(concepts), p=[NAME, UNICODE, OTHER, WIDER])
        templates = rng.integers(0, len(TEMPLATES), len(concepts))
        picks = rng.random(len(concepts))
        rows = []
        for concept, kind, pick in zip(concepts, kinds, picks, strict=True):
            choice = [[self._name[concept]], [self._unicode[concept]], self._other[concept], self._wider[concept]][kind]
            rows.append(choice[int(pick * len(choice))])
        sampled: torch.Tensor = self.tokens[torch.tensor(rows), torch.from_numpy(templates)]
        return sampled


class Pictures:
    """Training pictures: a quarter are new each time, the others were rendered for an earlier batch."""

    def __init__(self, glyphs: Sequence[Image.Image], side: int, workers: int) -> None:
        self._glyphs = glyphs
        self._side = side
        self._pool = np.zeros((len(glyphs), POOL, side, side, 3), dtype=np.uint8)
        self._rendered = np.zeros(len(glyphs), dtype=np.int64)
        self._threads = ThreadPoolExecutor(workers)

    def sample(self, concepts: NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
        """uint8 [N, 3, S, S] in channels-last layout."""
        fresh = (rng.random(len(concepts)) < FRESH) | (self._rendered[concepts] < 8)
        list(self._threads.map(self._render, concepts[fresh]))
        slots = (rng.random(len(concepts)) * np.minimum(self._rendered[concepts], POOL)).astype(np.int64)
        slots[fresh] = (self._rendered[concepts[fresh]] - 1) % POOL
        pictures = np.pad(self._pool[concepts, slots], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
        moves = rng.integers(0, 2 * SHIFT + 1, (len(concepts), 2))
        moved = [p[y : y + self._side, x : x + self._side] for p, (y, x) in zip(pictures, moves, strict=True)]
        return torch.from_numpy(np.stack(moved)).permute(0, 3, 1, 2)

    def _render(self, concept: int) -> None:
        number = int(self._rendered[concept])
        rng = rng_for("train", int(concept), number)
        self._pool[concept, number % POOL] = render_for_model(self._glyphs[concept], rng, self._side)
        self._rendered[concept] = number + 1

"""The same work with Ray Data, as its guides to images and to batch inference write it, and tuned as its performance tips say.

Read images, `map` a preprocessing over them, `map_batches` a class that holds the model, write Parquet.
https://docs.ray.io/en/latest/data/working-with-images.html, .../batch_inference.html and .../performance-tips.html
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from PIL import Image
from ray.data.expressions import download

from benchmarks.peers.clip import Clip, Columns, opened
from benchmarks.peers.work import Work

Row = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """How Ray Data divides the machine: what it is told with `num_cpus` and `ActorPoolStrategy`."""

    actors: int
    actor_cpus: float
    """cores that Ray sets aside for an actor; its torch runs on one thread"""
    read_cpus: float
    """cores that Ray sets aside for a task that reads and preprocesses"""


def layouts(cores: int) -> dict[str, Layout]:
    """By name: half of the cores encode and half read; all read, as where encoding is a GPU's work; all do both."""
    return {
        "halves": Layout(max(1, cores // 2), 1, 1),
        "readers": Layout(max(1, cores // 8), 0, 1),
        "both": Layout(cores, 0.75, 0.25),
    }


class Embed:
    """The class of `map_batches`: a model in an actor."""

    def __init__(self, model: str) -> None:
        torch.set_num_threads(1)
        self.clip = Clip(model)

    def __call__(self, batch: Columns) -> Columns:
        """Preprocessed pictures, float32 [N, 3, S, S], to rows."""
        return {"uri": batch["path"], **self.clip(torch.as_tensor(batch["image"]))}


class EmbedBytes(Embed):
    """The same for pictures that are still uint8 [N, S, S, 3]: four times less to carry, normalized here in one go."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        normalize = self.clip.preprocess.transforms[-1]
        self.mean = torch.tensor(normalize.mean).view(1, 3, 1, 1)
        self.std = torch.tensor(normalize.std).view(1, 3, 1, 1)

    def __call__(self, batch: Columns) -> Columns:
        """Cropped pictures to rows."""
        pixels = torch.as_tensor(batch["image"]).permute(0, 3, 1, 2).contiguous().float().div_(255)
        return {"uri": batch["path"], **self.clip(pixels.sub_(self.mean).div_(self.std))}


def documented(work: Work, layout: Layout) -> None:
    """Whole pictures as rows, a `map` with open_clip's own transform, `map_batches`."""
    transform = open_clip.image_transform(224, is_train=False)

    def decode(row: Row) -> Row:
        return {"path": row["path"], "image": np.asarray(opened(row["bytes"]).convert("RGB"))}

    def preprocess(row: Row) -> Row:
        return {"path": row["path"], "image": transform(Image.fromarray(row["image"])).numpy()}

    if work.bucket:
        pictures = _downloaded(work, layout).map(decode, num_cpus=layout.read_cpus)
    else:
        pictures = ray.data.read_images(work.images, include_paths=True, mode="RGB", num_cpus=layout.read_cpus)
    _embed(pictures.map(preprocess, num_cpus=layout.read_cpus), Embed, work, layout)


def tuned(work: Work, layout: Layout) -> None:
    """Files as rows, so that no whole picture becomes one; one `map` from bytes to a small crop; `map_batches`."""
    steps = open_clip.image_transform(224, is_train=False).transforms[:-2]

    def crop(row: Row) -> Row:
        picture = opened(row["bytes"]).convert("RGB")
        for step in steps:
            picture = step(picture)
        return {"path": row["path"], "image": np.asarray(picture)}

    if work.bucket:
        files = _downloaded(work, layout)
    else:
        files = ray.data.read_binary_files(work.images, include_paths=True, num_cpus=layout.read_cpus)
    _embed(files.map(crop, num_cpus=layout.read_cpus), EmbedBytes, work, layout)


def _downloaded(work: Work, layout: Layout) -> ray.data.Dataset:
    """The bytes of objects that a table names: the way to images by URI. It fetches with obstore, where that is installed."""
    table = work.output / "images.parquet"
    pq.write_table(pa.table({"path": work.images}), table)
    return ray.data.read_parquet(str(table)).with_column("bytes", download("path"), num_cpus=layout.read_cpus)


def _embed(pictures: ray.data.Dataset, kind: type[Embed], work: Work, layout: Layout) -> None:
    pictures.map_batches(
        kind,
        fn_constructor_args=[work.model],
        batch_size=work.batch,
        num_cpus=layout.actor_cpus,
        compute=ray.data.ActorPoolStrategy(size=layout.actors),
    ).write_parquet(str(work.rows))

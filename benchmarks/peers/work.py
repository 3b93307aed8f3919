"""The work that all sides do: images in, and for each a row in Parquet with its embedding and its scores."""

from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP

from benchmarks.random_models import save_model

PROMPTS = {
    "weapons": ("a handgun", "an assault rifle", "a hunting knife"),
    "alcohol": ("a bottle of wine", "a glass of beer", "a cocktail"),
    "tobacco": ("a cigarette", "a cigar"),
}
CONTRAST = ("a photo of a room", "a photo of people", "clothes", "food", "a power drill", "a toy water gun")
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
_LIGHT = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 224, "layers": 1, "width": 64, "patch_size": 32, "head_width": 64},
    "text_cfg": _TEXT,
}
_PREPROCESSING = {
    "size": 224,
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


@dataclass(frozen=True)
class Work:
    """What one run of one side is to do."""

    files: tuple[Path, ...]
    """the first of their folder by name"""
    model: str
    """`local-dir:…`, as open_clip and policies name it"""
    output: Path
    """an empty folder"""
    batch: int
    """images that a side hands to its encoder, or to its actor, at a time"""
    bucket: str = ""
    """where S3 has the same files; empty: the files themselves are read"""

    @property
    def rows(self) -> Path:
        """Where the peers put their Parquet files."""
        folder = self.output / "rows"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def images(self) -> list[str]:
        """Paths, or s3:// URIs."""
        return [f"s3://{self.bucket}/{file.name}" if self.bucket else str(file) for file in self.files]


def all_prompts() -> list[str]:
    """The texts that every image is compared with."""
    return [*(text for texts in PROMPTS.values() for text in texts), *CONTRAST]


def policy_text(model: str) -> str:
    """The same prompts as a policy."""
    rules = "".join(
        f"  - {{id: {name}, prompts: [{', '.join(texts)}], review: 0.6, block: 0.9}}\n" for name, texts in PROMPTS.items()
    )
    contrast = ", ".join(CONTRAST)
    return f'policy: measured\nmodel: {{name: "{model}"}}\ntemplates: ["{{}}"]\ncontrast: [{contrast}]\nrules:\n{rules}'


def light_model(folder: Path) -> str:
    """A CLIP of random weights that sees pictures as ViT-B/32 does and costs next to nothing: a CPU whose model is on a GPU."""
    return _save(folder, _LIGHT)


def vit_b_32(folder: Path) -> str:
    """ViT-B/32 with random weights."""
    return _save(folder, open_clip.get_model_config("ViT-B-32"))


def _save(folder: Path, config: dict[str, object]) -> str:
    """A model in open_clip's local-dir layout. Returns the name that open_clip and policies know it by."""
    torch.manual_seed(0)
    with torch.no_grad():
        model = CLIP(**config)
        # What is the same for all pictures makes the embeddings of random weights nearly equal: take it out.
        model.visual.class_embedding.zero_()
        model.visual.positional_embedding.zero_()
    return save_model(model, folder, config, _PREPROCESSING)

"""Trains the demo model: open_clip's architecture, tokenizer and loss, on pictures rendered as it goes.

Two CPU cores and an hour or so are enough. The learning rate follows one cycle over the budget and ends at zero, so a
run with `--minutes` or `--steps` is finished when it ends; `--resume` goes on behind the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from safetensors.torch import save_file

from moderation.demo import CONCEPTS_FILE, MODEL_DIR
from moderation.demo.training.concepts import load_concepts
from moderation.demo.training.data import Captions, Pictures
from moderation.demo.training.render import FontMissingError, draw_glyph, find_font

IMAGE_SIZE = 64
MEAN = STD = (0.5, 0.5, 0.5)
MODEL_CFG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": IMAGE_SIZE, "layers": [2, 2, 2, 2], "width": 16, "head_width": 64},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
}
WARM_UP = 0.06  # share of the budget


@dataclass(frozen=True)
class Budget:
    """When training ends: after `minutes` or after `steps`, whichever is given."""

    minutes: float | None
    steps: int | None

    def progress(self, seconds: float, steps: int) -> float:
        """Share of the budget used, 0-1."""
        used = steps / self.steps if self.steps else seconds / 60 / (self.minutes or 1)
        return min(1.0, used)


def model_config() -> dict[str, Any]:
    """The content of open_clip_config.json, open_clip's `local-dir:` layout."""
    return {
        "model_cfg": MODEL_CFG,
        "preprocess_cfg": {
            "size": IMAGE_SIZE,
            "mode": "RGB",
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    if progress < WARM_UP:
        return peak * (0.05 + 0.95 * progress / WARM_UP)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def export(model: torch.nn.Module, full_embedding: torch.Tensor, used: torch.Tensor, folder: Path) -> None:
    """Write config and float16 weights, with the trained token embeddings put back among all 49,408."""
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items() if name != "attn_mask"}
    embedding = full_embedding.clone()
    embedding[used] = weights["token_embedding.weight"]
    weights["token_embedding.weight"] = embedding
    halves = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in weights.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(model_config(), indent=2) + "\n", encoding="utf-8")
    partial = folder / "open_clip_model.safetensors.partial"
    save_file(halves, str(partial), metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(folder / "open_clip_model.safetensors")


class Trainer:
    """The model, its optimizer, and how far they are."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(options.seed)
        torch.set_num_threads(options.threads)
        concepts = load_concepts(options.concepts)
        font = find_font(options.font)
        glyphs = [glyph for glyph in (draw_glyph(c.glyph, font) for c in concepts) if glyph is not None]
        self.options = options
        self.concepts = len(concepts)
        self.captions = Captions(concepts, MODEL_CFG["text_cfg"]["context_length"])
        self.pictures = Pictures(glyphs, IMAGE_SIZE, options.threads)
        self.model = open_clip.CLIP(**MODEL_CFG).to(memory_format=torch.channels_last)
        self.full_embedding = self.model.token_embedding.weight.detach().clone()
        trained = self.full_embedding[self.captions.used]
        compact = torch.nn.Embedding(trained.shape[0], trained.shape[1], _weight=trained)
        self.model.token_embedding = compact
        self.optimizer = self._optimizer()
        self.loss = ClipLoss()
        self.mean = torch.tensor(MEAN).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(STD).view(1, 3, 1, 1) * 255
        self.steps, self.seconds = 0, 0.0
        options.work.mkdir(parents=True, exist_ok=True)
        self.checkpoint = options.work / "checkpoint.pt"
        if options.resume:
            state = torch.load(self.checkpoint, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.steps, self.seconds = state["steps"], state["seconds"]
        self.rng = np.random.default_rng([options.seed, self.steps])

    def _optimizer(self) -> torch.optim.Optimizer:
        named = list(self.model.named_parameters())
        matrices = [p for name, p in named if p.ndim >= 2 and "embedding" not in name]
        others = [p for name, p in named if p.ndim < 2 or "embedding" in name]
        groups = [
            {"params": matrices, "weight_decay": self.options.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.options.learning_rate, betas=(0.9, 0.98))

    def step(self, rate: float) -> float:
        """One batch at this learning rate; returns its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chosen = self.rng.permutation(self.concepts)[: self.options.batch]
        images = (self.pictures.sample(chosen, self.rng).float() - self.mean) / self.std
        captions = self.captions.sample(chosen, self.rng)
        loss = self.loss(*self.model(images.contiguous(memory_format=torch.channels_last), captions))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        self.steps += 1
        return float(loss.item())

    def save(self) -> None:
        """A checkpoint to resume from, and the model as it is now in open_clip's layout."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        torch.save(state, self.checkpoint)
        export(self.model, self.full_embedding, self.captions.used, self.options.output)

    def report(self) -> dict[str, int | float]:
        """What training took, for the model card."""
        return {
            "steps": self.steps,
            "minutes": round(self.seconds / 60, 1),
            "batch": self.options.batch,
            "threads": self.options.threads,
            "images_per_second": round(self.steps * self.options.batch / self.seconds),
        }


def train(options: argparse.Namespace) -> None:
    """Train until the budget is used up, saving on the way."""
    trainer = Trainer(options)
    trainer.model.train()
    trained = sum(p.numel() for p in trainer.model.parameters())
    print(f"{trainer.concepts} concepts, {len(trainer.captions.used)} tokens, {trained:,} parameters", flush=True)
    budget = Budget(options.minutes, options.steps)
    started = time.monotonic() - trainer.seconds
    saved = logged = time.monotonic()
    losses: list[float] = []
    while (progress := budget.progress(trainer.seconds, trainer.steps)) < 1:
        losses.append(trainer.step(learning_rate(progress, options.learning_rate)))
        now = time.monotonic()
        trainer.seconds = now - started
        if len(losses) == options.log_steps:
            speed = len(losses) * options.batch / (now - logged)
            scale = trainer.model.logit_scale.exp().item()
            print(
                f"{trainer.seconds / 60:6.1f} min  step {trainer.steps:6d}  {progress:6.1%}  "
                f"loss {np.mean(losses):.4f}  scale {scale:5.1f}  {speed:5.0f} images/s",
                flush=True,
            )
            logged, losses = now, []
        if now - saved > 60 * options.checkpoint_minutes:
            saved = now
            trainer.save()
    trainer.save()
    report = json.dumps(trainer.report(), indent=2)
    (options.work / "training.json").write_text(report + "\n", encoding="utf-8")
    print(report)


def main(arguments: list[str] | None = None) -> int:
    """Train the demo model; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m moderation.demo.training.train", description=__doc__)
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="train this long; the schedule ends at zero")
    budget.add_argument("--steps", type=int, help="train this many steps: the same weights on the same machine")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and training.json")
    parser.add_argument("--resume", action="store_true", help="resume from the checkpoint in --work")
    parser.add_argument("--output", type=Path, default=MODEL_DIR, help="default: %(default)s")
    parser.add_argument("--concepts", type=Path, default=CONCEPTS_FILE, help="default: %(default)s")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf, where it is not in a usual place")
    parser.add_argument("--batch", type=int, default=256, help="distinct concepts per step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak (default: %(default)s)")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=20261121, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: %(default)s")
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0, help="default: %(default)s")
    parser.add_argument("--log-steps", type=int, default=100, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        train(options)
    except (FontMissingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

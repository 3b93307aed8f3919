"""Measures the demo model: zero-shot top-1 and top-5 over all its concepts, on renderings it has not seen.

The pictures come from random streams of their own, at sizes from 160 to 480 pixels, and go through open_clip's own
preprocessing; the classifier is open_clip's own, built from CLDR's names in three templates.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image

from moderation.demo import CONCEPTS_FILE, MODEL_DIR
from moderation.demo.training.concepts import Concept, load_concepts
from moderation.demo.training.render import FontMissingError, draw_glyph, find_font, render, rng_for

TEMPLATES = ("a photo of {}", "a picture of a {}", "{}")
METRICS_FILE = MODEL_DIR / "metrics.json"


def held_out(concepts: Sequence[Concept], font: Path, each: int) -> Iterator[tuple[int, Image.Image]]:
    """(number of the concept, picture) for `each` pictures of every concept."""
    for number, concept in enumerate(concepts):
        glyph = draw_glyph(concept.glyph, font)
        if glyph is None:
            raise FontMissingError(f"the font at {font} has no picture for {concept.glyph!r} ({concept.unicode_name})")
        for copy in range(each):
            rng = rng_for("evaluate", number, copy)
            width, height = (int(side) for side in rng.integers(160, 481, 2))
            yield number, render(glyph, rng, (width, height))


@torch.inference_mode()
def measure(model_dir: Path, concepts: Sequence[Concept], font: Path, each: int) -> dict[str, Any]:
    """Top-1, top-5 and the most frequent confusions."""
    name = f"local-dir:{model_dir.resolve()}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    names = [concept.captions[0] for concept in concepts]
    templates = [template.format for template in TEMPLATES]
    tokenizer = open_clip.get_tokenizer(name)
    classifier = open_clip.build_zero_shot_classifier(model, tokenizer, names, templates, num_classes_per_batch=64)
    truths: list[int] = []
    ranked: list[torch.Tensor] = []
    batch: list[torch.Tensor] = []

    def flush() -> None:
        if batch:
            ranked.append((model.encode_image(torch.stack(batch), normalize=True) @ classifier).topk(5).indices)
            batch.clear()

    for number, picture in held_out(concepts, font, each):
        truths.append(number)
        batch.append(preprocess(picture))
        if len(batch) == 128:
            flush()
    flush()
    answers, truth = torch.cat(ranked), torch.tensor(truths)
    right = answers == truth[:, None]
    missed = Counter((names[t], names[a]) for t, a in zip(truths, answers[:, 0].tolist(), strict=True) if t != a)
    return {
        "concepts": len(concepts),
        "images": len(truths),
        "top1": round(right[:, 0].float().mean().item(), 4),
        "top5": round(right.any(dim=1).float().mean().item(), 4),
        "templates": list(TEMPLATES),
        "parameters": sum(p.numel() for p in model.parameters()),
        "confusions": [{"concept": a, "taken_for": b, "images": n} for (a, b), n in missed.most_common(15)],
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and write metrics.json; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m moderation.demo.training.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_DIR, help="default: %(default)s")
    parser.add_argument("--concepts", type=Path, default=CONCEPTS_FILE, help="default: %(default)s")
    parser.add_argument("--each", type=int, default=8, help="pictures per concept (default: %(default)s)")
    parser.add_argument("--training", type=Path, help="training.json of the run, to be kept with the numbers")
    parser.add_argument("--output", type=Path, default=METRICS_FILE, help="default: %(default)s")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf, where it is not in a usual place")
    options = parser.parse_args(arguments)
    try:
        metrics = measure(options.model, load_concepts(options.concepts), find_font(options.font), options.each)
        if options.training:
            metrics["training"] = json.loads(options.training.read_text(encoding="utf-8"))
        options.output.write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (FontMissingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(metrics, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

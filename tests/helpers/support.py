"""What several test files share: the data beside the repository, small policies, a tiny model."""

import json
from pathlib import Path

from needs import DATA, needs_data  # noqa: F401 - for those who import them from here

from moderation.policy import Policy


def make_policy(*rules, **keys):
    """A policy of these rules; what a rule or the policy leaves out is filled in."""
    filled = [{"id": f"r{i}", "prompts": [f"p{i}"], "review": 0.5, **rule} for i, rule in enumerate(rules)]
    return Policy.model_validate({"policy": "test", "model": {"name": "demo"}, "contrast": ["x"], "rules": filled, **keys})


def save_model(folder, state, config, **preprocess):
    """A model in open_clip's local-dir layout; returns the name that open_clip knows it by."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "open_clip_model.safetensors")
    how = {"size": 64, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest", **preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": how}))
    return f"local-dir:{folder}"


TEXT = {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
VIT = {"embed_dim": 64, "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16}, "text_cfg": TEXT}


def save_tiny_clip(folder, seed=0, **preprocess):
    """A CLIP of random weights, a few megabytes."""
    import torch
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    return save_model(folder, CLIP(**VIT).state_dict(), VIT, **preprocess)


def descendants(pid: int) -> dict[int, str]:
    """Process ids below one, with what each runs."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:
                continue
            parents[int(entry.name)] = int(status.split("PPid:")[1].split()[0])
    found: dict[int, str] = {}
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - set(found)
        found |= {child: names.get(child, "") for child in frontier}
    return found

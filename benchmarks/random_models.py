"""Models of random weights in files: they cost as much to run as trained ones."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """A model's weights in a safetensors file."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def save_model(model: torch.nn.Module, folder: Path, config: Mapping[str, object], preprocessing: Mapping[str, object]) -> str:
    """A model in open_clip's local-dir layout. Returns the name that open_clip and policies know it by."""
    folder.mkdir(parents=True)
    save_weights(model, folder / "open_clip_model.safetensors")
    written = {"model_cfg": config, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    return f"local-dir:{folder}"

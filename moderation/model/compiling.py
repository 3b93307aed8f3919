"""Compiling the image tower with torch.compile: block by block where its blocks are equal, which takes seconds."""

import os
import shutil
from collections.abc import Sequence

import torch

_MOST = 0.5
"""Share of the tower's weights that equal blocks must hold."""


def has_compiler() -> bool:
    """Whether the C++ compiler that torch.compile calls is here."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def equal_blocks(tower: torch.nn.Module) -> tuple[torch.nn.Module, ...]:
    """The blocks that a tower repeats, such as the layers of a transformer; none if it is not made of such."""
    whole = _weights([tower])
    for module in tower.modules():
        blocks = tuple(module.children())
        listed = isinstance(module, torch.nn.ModuleList | torch.nn.Sequential)
        if listed and len(blocks) > 1 and len({type(block) for block in blocks}) == 1 and _weights(blocks) > _MOST * whole:
            return blocks
    return ()


def compile_tower(tower: torch.nn.Module) -> None:
    """Have the tower compiled at its next call, until `uncompile_tower`."""
    from torch._inductor import config  # noqa: PLC0415 - a second that only compiling needs

    config.compile_threads = 1  # no processes beside this one
    for block in equal_blocks(tower) or (tower,):
        block.forward = torch.compile(block.forward, dynamic=False)


def uncompile_tower(tower: torch.nn.Module) -> None:
    """Undo `compile_tower`."""
    for block in equal_blocks(tower) or (tower,):
        vars(block).pop("forward", None)


def _weights(modules: Sequence[torch.nn.Module]) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())

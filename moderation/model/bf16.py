"""bf16 on CPUs: a copy of the image tower whose weights are bf16.

Autocast, which GPUs use, is slower than fp32 here: it casts and copies weights again for each token of an attention layer.
"""

import copy
from pathlib import Path
from typing import Any

import torch

_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls the instructions on x86 and on ARM."""
_CPUINFO = Path("/proc/cpuinfo")


def with_bf16_tower(model: Any) -> Any:
    """The same model with a copy of its image tower in bf16; what else it has, such as the text tower, is shared.

    Batch norms stay fp32: they take bf16, and their statistics of many channels lose too much in it.
    """
    tower = copy.deepcopy(model.visual).bfloat16()
    for module in tower.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.float()
    twin = copy.copy(model)
    twin._modules = {**model._modules, "visual": tower}
    return twin


def multiplies_in_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether this machine's CPU has instructions for bf16; False where the system does not say."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(
        not _FLAGS.isdisjoint(line.partition(":")[2].split())
        for line in lines
        if line.partition(":")[0].strip() in ("flags", "Features")
    )

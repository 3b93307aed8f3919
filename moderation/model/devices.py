"""What a device can do, and how many images fit onto it."""

from collections.abc import Callable

import torch

from moderation.errors import ModelError
from moderation.model.compiling import equal_blocks, has_compiler
from moderation.model.encoder import Device
from moderation.model.engines import Abilities

_PROBE = 16
"""Images of the forward pass that is measured."""
_USED = 0.8
"""Share of the free memory that batches may take: allocators round up, and other batch sizes take other kernels."""


def device_of(device: Device) -> torch.device:
    """The device that is meant. Raises `ModelError` where there is no CUDA and it is asked for."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device `cuda` was asked for, but torch sees no CUDA device here: use `--device cpu`, or a GPU node")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def abilities(device: torch.device, tower: torch.nn.Module) -> Abilities:
    """What a device can run of an image tower."""
    found = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    bf16 = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return Abilities(device.type == "cuda", bf16, has_compiler(), bool(equal_blocks(tower)))


def cuda_memory(
    run: Callable[[torch.Tensor], torch.Tensor], size: int, device: torch.device, share: float
) -> tuple[float, float]:
    """Bytes that forward passes may take on a GPU, and bytes that one takes for an image, measured.

    Args:
        run: a forward pass over uint8 [N, S, S, 3].
        size: S.
        device: the GPU.
        share: how much of it is ours, above 0 to 1.
    """
    pixels = torch.zeros((_PROBE, size, size, 3), dtype=torch.uint8, device=device)
    run(pixels)  # what libraries take for themselves is not the images'
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run(pixels)
    torch.cuda.synchronize(device)
    per_image = (torch.cuda.max_memory_allocated(device) - before) / _PROBE + 2 * size * size * 3
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return _USED * min(free, share * total - torch.cuda.memory_reserved(device)), per_image

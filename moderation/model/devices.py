"""What a device can do, and how many images fit onto it."""

from collections.abc import Callable

import torch

from moderation.errors import ModelError
from moderation.model.bf16 import multiplies_in_bf16
from moderation.model.compiling import has_compiler
from moderation.model.encoder import Device
from moderation.model.engines import Abilities
from moderation.model.int8 import onnxruntime_version

_PROBE = 16
"""Images of the forward pass that is measured."""
_USED = 0.8
"""Share of our memory that batches may take: allocators round up, and other batch sizes take other kernels."""


def device_of(device: Device) -> torch.device:
    """The requested device. Raises `ModelError` if CUDA is requested but not available."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device `cuda` was requested, but torch sees no CUDA device here: use `--device cpu`, or a GPU node")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def abilities(device: torch.device) -> Abilities:
    """What a device can run: facts of its hardware, which are the same however busy it is."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        name = f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}"
        return Abilities((major, minor), has_compiler(), name)
    bf16 = multiplies_in_bf16()
    name = f"CPU with {torch.backends.cpu.get_cpu_capability()}{' and bf16' if bf16 else ''}"
    return Abilities(None, has_compiler(), name, bf16, onnxruntime_version())


def cuda_memory(
    run: Callable[[torch.Tensor], torch.Tensor], size: int, device: torch.device, share: float
) -> tuple[float, float, float]:
    """Memory of a GPU in bytes: what forward passes may take, what one takes for an image, and what is free just now.

    The first two are the same however many others use the GPU: the batch is chosen by them, and a batch of another size gives
    other embeddings, by a bit here and there.

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
    return _USED * (share * total - before), per_image, float(free)

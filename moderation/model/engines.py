"""How a model runs: eager, compiled or as CUDA graphs, in which precision, how many images at a time. And which way to take.

What changes a bit of an embedding is chosen by what the hardware is, never by a measurement: the same command on the same
machine must give the same embeddings, however busy it is.
"""

from dataclasses import dataclass, field
from typing import Literal

from moderation.errors import ModelError
from moderation.model.encoder import Precision

EngineChoice = Literal["auto", "eager", "compiled", "graphs"]

CPU_BATCH, MAX_BATCH = 16, 1024
_LEAST_BATCH = 8
BF16_CAPABILITY = (8, 0)
"""CUDA's compute capability from which GPUs multiply in bf16: Ampere and later."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run a model. Equal engines on equal machines give equal embeddings."""

    kind: Literal["eager", "compiled", "graphs"]
    precision: Literal["fp32", "bf16"]
    batch_size: int
    """images of a forward pass"""
    why: str = field(default="", compare=False)
    """for people: what the hardware is, and what was chosen for it"""

    def __str__(self) -> str:
        kind = "CUDA graphs" if self.kind == "graphs" else self.kind
        return f"{kind} {self.precision}, {self.batch_size} images per batch"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a machine can run."""

    capability: tuple[int, int] | None
    """CUDA's compute capability; None for a CPU"""
    compiler: bool
    """there is a C++ compiler for what torch.compile generates"""
    hardware: str = ""
    """for people: the device, and what it can do"""

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.capability is not None


def chosen_engine(choice: EngineChoice, precision: Precision, machine: Abilities, batch_size: int = CPU_BATCH) -> Engine:
    """The requested engine. `auto` is eager; bf16 on GPUs that multiply in it, fp32 on all others and on CPUs.

    On CPUs `auto` is never bf16, even where they multiply in it: then every kind of CPU has the same fingerprint, and fp32 is
    where their results differ least. Nor is it ever `compiled`, whose embeddings differ a little from those of eager.

    Raises:
        ModelError: what is asked for cannot run here.
    """
    if choice == "graphs" and not machine.cuda:
        raise ModelError("the engine `graphs` needs a CUDA device, and this is a CPU: use `auto`, `eager` or `compiled`")
    if choice == "compiled" and not machine.compiler:
        raise ModelError("the engine `compiled` needs a C++ compiler here, such as g++: install one, or use `auto` or `eager`")
    multiplies = machine.capability is not None and machine.capability >= BF16_CAPABILITY
    ordinary: Literal["fp32", "bf16"] = "bf16" if multiplies else "fp32"
    taken = ordinary if precision == "auto" else precision
    reasons = [machine.hardware] if machine.hardware else []
    if precision != "auto":
        reasons.append(f"{taken} was requested")
    elif not machine.cuda:
        reasons.append("auto is fp32 on CPUs")
    else:
        reasons.append(f"auto is {taken} on GPUs {'from' if multiplies else 'below'} compute capability 8.0")
    reasons.append("auto is eager" if choice == "auto" else f"{choice} was requested")
    return Engine("eager" if choice == "auto" else choice, taken, batch_size, "; ".join(reasons))


def fitting_batch(memory: float, per_image: float, most: int = MAX_BATCH) -> int:
    """The largest power of two that fits into memory, 8 to `most`.

    Args:
        memory: bytes that forward passes may take.
        per_image: bytes that they take for an image.
        most: no more than this, power of two or not; below 8 it counts as 8.
    """
    fitting = min(most, int(memory / max(per_image, 1.0)))
    return max(_LEAST_BATCH, 1 << max(0, fitting.bit_length() - 1)) if fitting > 0 else _LEAST_BATCH

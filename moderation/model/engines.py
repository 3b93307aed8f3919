"""How a model runs: eager, compiled or as CUDA graphs, in which precision, how many images at a time. And which way to take."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from moderation.errors import ModelError
from moderation.model.encoder import Precision

EngineChoice = Literal["auto", "eager", "compiled", "graphs"]

WORTH_IMAGES, WORTH_S = 1_000, 60.0
"""Compiling is tried only where this many images, a shard of a CPU, take at least so many seconds: it costs some 10 s."""
COMPILED_GAIN, COMPILED_COSINE = 1.1, 0.9999
"""What compiled code must reach against eager: times faster, and how alike the embeddings must be."""
BF16_GAIN, BF16_COSINE = 1.2, 0.999
"""The same for bf16 against fp32 on a CPU. It must be clearly faster, since it makes another fingerprint."""
CPU_BATCH, MAX_BATCH = 16, 1024
_LEAST_BATCH = 8


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run a model. Equal engines on equal machines give equal embeddings."""

    kind: Literal["eager", "compiled", "graphs"]
    precision: Literal["fp32", "bf16"]
    batch_size: int
    """images of a forward pass"""

    def __str__(self) -> str:
        kind = "CUDA graphs" if self.kind == "graphs" else self.kind
        return f"{kind} {self.precision}, {self.batch_size} images at a time"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a machine can run."""

    cuda: bool
    fast_bf16: bool
    """the CPU multiplies in bf16: AVX-512-BF16 or AMX"""
    compiler: bool
    """there is a C++ compiler for what torch.compile generates"""
    regional: bool
    """the model is made of equal blocks, so that compiling is a matter of seconds: one block is compiled for all"""


@dataclass(frozen=True, slots=True)
class Trial:
    """A short run of an engine."""

    seconds: float
    """per image, if all threads had a core to themselves: CPU time over threads"""
    cosine: float
    """least cosine of an embedding to the one of eager fp32"""


def default_engine(choice: EngineChoice, precision: Precision, machine: Abilities, batch_size: int = CPU_BATCH) -> Engine:
    """What is taken without measuring: eager, bf16 on CUDA and fp32 on a CPU, unless something else is asked for.

    Raises:
        ModelError: what is asked for cannot run here.
    """
    if choice == "graphs" and not machine.cuda:
        raise ModelError("the engine `graphs` needs a CUDA device, and this is a CPU: use `auto`, `eager` or `compiled`")
    if choice == "compiled" and not machine.compiler:
        raise ModelError("the engine `compiled` needs a C++ compiler here, such as g++: install one, or use `auto` or `eager`")
    ordinary: Literal["fp32", "bf16"] = "bf16" if machine.cuda else "fp32"
    return Engine("eager" if choice == "auto" else choice, ordinary if precision == "auto" else precision, batch_size)


def choose(
    choice: EngineChoice, precision: Precision, machine: Abilities, batch_size: int, run: Callable[[Engine], Trial | None]
) -> Engine:
    """The fastest engine of those that are asked for and keep to the embeddings, by short runs.

    On CUDA nothing is tried: eager keeps ahead of JPEG decoding, and `compiled` and `graphs` are there to be asked for. On a
    CPU bf16 is tried where the CPU multiplies in it, and compiling where it is a matter of seconds and encoding of minutes.

    Args:
        choice: what is asked for; `auto` leaves the choice.
        precision: likewise.
        machine: what there is to choose from.
        batch_size: images of a forward pass.
        run: tries an engine; None where that fails.

    Raises:
        ModelError: what is asked for cannot run here.
    """
    best = default_engine(choice, precision, machine, batch_size)
    bf16 = precision == "auto" and machine.fast_bf16
    compiling = choice == "auto" and machine.compiler and machine.regional
    if machine.cuda or not (bf16 or compiling):
        return best
    fastest = run(best)
    if fastest is None:
        return best
    if bf16:
        other = replace(best, precision="bf16")
        trial = run(other)
        if trial is not None and trial.seconds * BF16_GAIN <= fastest.seconds and trial.cosine >= BF16_COSINE:
            best, fastest = other, trial
    if compiling and fastest.seconds * WORTH_IMAGES >= WORTH_S:
        other = replace(best, kind="compiled")
        trial = run(other)
        alike = COMPILED_COSINE if best.precision == "fp32" else BF16_COSINE
        if trial is not None and trial.seconds * COMPILED_GAIN <= fastest.seconds and trial.cosine >= alike:
            best = other
    return best


def fitting_batch(memory: float, per_image: float, most: int = MAX_BATCH) -> int:
    """The largest power of two that fits into memory, 8 to `most`.

    Args:
        memory: bytes that forward passes may take.
        per_image: bytes that they take for an image.
        most: no more than this, power of two or not; below 8 it counts as 8.
    """
    fitting = min(most, int(memory / max(per_image, 1.0)))
    return max(_LEAST_BATCH, 1 << max(0, fitting.bit_length() - 1)) if fitting > 0 else _LEAST_BATCH

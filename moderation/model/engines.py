"""How a model runs: eager, compiled, as CUDA graphs or in ONNX Runtime, in which precision, how many images at a time.

What changes a bit of an embedding is chosen by what the hardware is, never by a measurement: the same command on the same
machine must give the same embeddings, however busy it is.
"""

from dataclasses import dataclass, field
from typing import Literal

from moderation.errors import ModelError
from moderation.model.encoder import Precision

EngineChoice = Literal["auto", "eager", "compiled", "graphs"]
Kind = Literal["eager", "compiled", "graphs", "onnxruntime"]

CPU_BATCH, MAX_BATCH = 16, 1024
_LEAST_BATCH = 8
BF16_CAPABILITY = (8, 0)
"""CUDA's compute capability from which GPUs multiply in bf16: Ampere and later."""
FP32, AUTOCAST, BF16_WEIGHTS, INT8 = (
    "fp32",
    "bf16",
    "bf16 weights",
    "int8: weights 7 bits by channel, activations 8 bits by picture and layer",
)
ARITHMETICS = (FP32, AUTOCAST, BF16_WEIGHTS, INT8)
"""What fingerprints say of how embeddings are computed: each gives others. `bf16` is autocast, on GPUs."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run a model. Equal engines on equal machines give equal embeddings."""

    kind: Kind
    precision: Literal["fp32", "bf16", "int8"]
    batch_size: int
    """images of a forward pass"""
    why: str = field(default="", compare=False)
    """for people: what the hardware is, and what was chosen for it"""
    warning: str = field(default="", compare=False)
    """for people: why that is slow here; empty where it is not"""

    def __str__(self) -> str:
        kind = {"graphs": "CUDA graphs", "onnxruntime": "ONNX Runtime"}.get(self.kind, self.kind)
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
    bf16: bool = True
    """it multiplies in bf16; without that, bf16 is many times slower than fp32"""
    onnxruntime: str = ""
    """the version of ONNX Runtime; empty where it, or what makes its models, is not installed"""

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.capability is not None


def chosen_engine(choice: EngineChoice, precision: Precision, machine: Abilities, batch_size: int = CPU_BATCH) -> Engine:
    """The requested engine. `auto` is eager; bf16 on GPUs that multiply in it, fp32 on all others and on CPUs.

    On CPUs `auto` is never bf16 or int8, even where they multiply in it: then every kind of CPU has the same fingerprint, and
    fp32 is where their results differ least. Nor is it ever `compiled`, whose embeddings differ a little from those of eager.

    Raises:
        ModelError: the requested engine cannot run here.
    """
    if precision == "int8" and choice != "auto":
        raise ModelError(f"int8 runs in ONNX Runtime, not in the engine `{choice}`: leave `engine` at `auto`")
    multiplies = machine.capability is not None and machine.capability >= BF16_CAPABILITY
    ordinary: Literal["fp32", "bf16"] = "bf16" if multiplies else "fp32"
    taken = ordinary if precision == "auto" else precision
    kind: Kind = "onnxruntime" if taken == "int8" else "eager" if choice == "auto" else choice
    check_engine(kind, machine)
    reasons = [machine.hardware] if machine.hardware else []
    if precision != "auto":
        reasons.append(f"{taken} was requested")
    elif not machine.cuda:
        reasons.append("auto is fp32 on CPUs")
    else:
        reasons.append(f"auto is {taken} on GPUs {'from' if multiplies else 'below'} compute capability 8.0")
    if taken == "int8":
        reasons.append(f"int8 runs in ONNX Runtime {machine.onnxruntime}")
    else:
        reasons.append("auto is eager" if choice == "auto" else f"{choice} was requested")
    warning = ""
    if taken == "bf16" and not machine.cuda and not machine.bf16:
        warning = (
            f"this CPU has no instructions for bf16 ({machine.hardware}), and without them it is many times slower than fp32: "
            "use `--precision fp32` or `int8`, or a CPU with AVX-512-BF16 or AMX"
        )
    return Engine(kind, taken, batch_size, "; ".join(reasons), warning)


def check_engine(kind: Kind, machine: Abilities) -> None:
    """Refuse what a machine cannot run. Raises `ModelError`."""
    if kind == "graphs" and not machine.cuda:
        raise ModelError("the engine `graphs` needs a CUDA device, and this is a CPU: use `auto`, `eager` or `compiled`")
    if kind == "compiled" and not machine.compiler:
        raise ModelError("the engine `compiled` needs a C++ compiler here, such as g++: install one, or use `auto` or `eager`")
    if kind == "onnxruntime" and machine.cuda:
        raise ModelError("precision int8 is for CPUs, and this is a GPU: use `--device cpu`, or `--precision bf16` on the GPU")
    if kind == "onnxruntime" and not machine.onnxruntime:
        raise ModelError("precision int8 needs ONNX Runtime, which is not installed here: pip install 'clip-moderation[cpu]'")


def arithmetic(precision: Literal["fp32", "bf16", "int8"], *, cuda: bool) -> str:
    """What a fingerprint says of a precision on a GPU or a CPU, one of `ARITHMETICS`."""
    if precision == "int8":
        return INT8
    if precision == "fp32":
        return FP32
    return AUTOCAST if cuda else BF16_WEIGHTS


def fitting_batch(memory: float, per_image: float, most: int = MAX_BATCH) -> int:
    """The largest power of two that fits into memory, 8 to `most`.

    Args:
        memory: bytes that forward passes may take.
        per_image: bytes that they take for an image.
        most: no more than this, power of two or not; below 8 it counts as 8.
    """
    fitting = min(most, int(memory / max(per_image, 1.0)))
    return max(_LEAST_BATCH, 1 << max(0, fitting.bit_length() - 1)) if fitting > 0 else _LEAST_BATCH

"""How many actors a run has, and what each gets of the machines that Ray knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

from moderation.errors import SettingsError
from moderation.settings import RunSettings

CPUS_PER_ACTOR = 8
"""CPU-only actors get at most this many cores each: one model and its decode threads use them well."""
WELL_USED = 0.75
"""Share of the cores that CPU-only actors must use; if fewer and larger actors reach it, these are used."""
GPU_DECODE_THREADS = 64
_ROUNDING = 1e-9
_GPU_KIND = "accelerator_type:"
"""How the resource begins by which Ray says what kind of GPU a machine has."""


@dataclass(frozen=True)
class PoolPlan:
    """How many actors, and what each gets."""

    actors: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """CPU threads of an actor, at least one."""
        return max(1, int(self.cpus))

    @property
    def torch_threads(self) -> int:
        """CPU threads that torch uses in an actor: with a GPU one; else as many as decode, all of its cores.

        Both may want all cores at a time: torch's sleep while they wait (see `worker`), and decoding is never far ahead.
        """
        return 1 if self.gpus else self.threads

    def __str__(self) -> str:
        if self.actors == 0:
            return "no actor: only stored embeddings"
        device = f"{self.gpus:g} GPU" if self.gpus else "no GPU"
        return f"{self.actors} actor{'s' if self.actors > 1 else ''} with {self.cpus:g} CPU cores and {device} each"


@dataclass(frozen=True)
class Machine:
    """What a node of the cluster has for everybody together."""

    cpus: float
    gpus: float
    gpu_kind: str = ""
    """as Ray calls it, such as A100; empty where it does not say"""


def decode_threads(settings: RunSettings, plan: PoolPlan) -> int:
    """Decoding threads of each actor: its cores; many more if a GPU decodes, which is given what they wait for at a time."""
    chosen = max(GPU_DECODE_THREADS, plan.threads) if settings.jpeg_decoder == "gpu" else plan.threads
    return settings.decode_threads or chosen


def plan_pool(settings: RunSettings) -> PoolPlan:
    """Divide the cluster: an actor per share of a GPU where there are GPUs, else an actor per 8 cores.

    Raises:
        SettingsError: what the settings ask for does not fit.
    """
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return divide([Machine(r.get("CPU", 0.0), r.get("GPU", 0.0), _gpu_kind(r)) for r in resources], settings)


def divide(machines: Sequence[Machine], settings: RunSettings) -> PoolPlan:
    """A plan that fits, machine by machine: what an actor gets must all be on one, and its share of a GPU on one GPU.

    Raises:
        SettingsError: what the settings ask for does not fit.
    """
    gpus = sum(machine.gpus for machine in machines)
    if settings.device == "cuda" and gpus == 0:
        raise SettingsError("device `cuda` was requested, but the Ray cluster has no GPU: use `--device cpu`, or add GPU nodes")
    if settings.jpeg_decoder == "gpu" and (gpus == 0 or settings.device == "cpu"):
        where = "the Ray cluster has no GPU" if gpus == 0 else "the actors have no GPU with device `cpu`"
        raise SettingsError(f"JPEG decoder `gpu` was requested, but {where}: use `--jpeg-decoder cpu`, or GPU nodes")
    if gpus and settings.device != "cpu":
        kinds = sorted({machine.gpu_kind for machine in machines if machine.gpus >= 1})
        if len(kinds) > 1 and settings.precision == "auto":
            raise SettingsError(
                f"the Ray cluster has GPUs of several kinds ({', '.join(kind or 'unknown' for kind in kinds)}), for which "
                "precision `auto` may mean different ones: use `--precision bf16` or `--precision fp32`"
            )
        return _on_gpus([machine for machine in machines if machine.gpus >= 1], gpus, settings)
    return _on_cpus([machine.cpus for machine in machines if machine.cpus > 0] or [1.0], settings.actors)


def _gpu_kind(resources: Mapping[str, float]) -> str:
    marks = [name.removeprefix(_GPU_KIND) for name in resources if name.startswith(_GPU_KIND)]
    return marks[0] if marks else ""


def _on_gpus(machines: Sequence[Machine], gpus: float, settings: RunSettings) -> PoolPlan:
    share = settings.gpus_per_actor
    on_each = int(1 / share + _ROUNDING)
    places = [int(machine.gpus) * on_each for machine in machines]
    actors = settings.actors or sum(places)
    if actors > sum(places):
        raise SettingsError(
            f"{actors} actors with {share:g} GPU each do not fit on {gpus:g} GPUs, {on_each} on each: "
            f"use at most {sum(places)}, or a smaller `gpus_per_actor`"
        )
    # Ray may put as many on one machine as its GPUs take.
    cpus = min(machine.cpus / min(there, actors) for machine, there in zip(machines, places, strict=True))
    return PoolPlan(actors, _whole(cpus), share)


def _on_cpus(cores: Sequence[float], actors: int | None) -> PoolPlan:
    def fitting(size: float) -> int:
        return sum(int(there / size + _ROUNDING) for there in cores)

    if actors is not None:
        sizes = [_whole(there / number) for there in cores for number in range(1, actors + 1)]
        return PoolPlan(actors, max(size for size in sizes if fitting(size) >= actors), 0.0)
    sizes = [_whole(there / max(1, there // CPUS_PER_ACTOR)) for there in cores]
    used = {size: size * fitting(size) for size in sizes}
    enough = [size for size in sizes if used[size] >= WELL_USED * sum(cores)]
    size = max(enough) if enough else max(sizes, key=used.__getitem__)
    return PoolPlan(fitting(size), size, 0.0)


def _whole(cpus: float) -> float:
    """Ray takes whole cores from one on, and four digits below."""
    return float(int(cpus)) if cpus >= 1 else int(cpus * 10_000) / 10_000

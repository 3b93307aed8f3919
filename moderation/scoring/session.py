"""Starting, joining and leaving Ray, and how actors share its machines."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import _raylet

from moderation.errors import SettingsError
from moderation.settings import RunSettings

CPUS_PER_ACTOR = 8
"""CPU-only actors get at most this many cores each: one model and its decode threads use them well."""


@contextlib.contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Ray for the time of a run: the cluster at `address` or RAY_ADDRESS, one that this process has joined, or a fresh one.

    A fresh one is closed to others by a token; its dashboard is off. Usage statistics always are.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SettingsError(f"cannot join the Ray cluster at {address}: {reason}") from None
    else:
        _require_token()
        try:
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="error")
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            hint = "; set RAY_TMPDIR to a folder with a shorter path" if "AF_UNIX path" in reason else ""
            raise SettingsError(f"cannot start Ray on this machine: {reason}{hint}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_token() -> None:
    """Close the Ray that is about to start: it listens on all interfaces whatever address it is told.

    Unless the user has a token already, one is made that only this process and the workers it starts know. Ray reads its
    environment when it is imported, which may be long ago, so that it has to be told as well.
    """
    os.environ["RAY_AUTH_MODE"] = "token"
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and not Path("~/.ray/auth_token").expanduser().exists():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    raylet: Any = _raylet  # Ray ships stubs for it that leave these out
    raylet.Config.initialize(b'{"AUTH_MODE": "token"}')
    raylet.AuthenticationTokenLoader.instance().reset_cache()


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

    def __str__(self) -> str:
        if self.actors == 0:
            return "no actor: nothing but stored embeddings"
        device = f"{self.gpus:g} GPU" if self.gpus else "no GPU"
        return f"{self.actors} actor{'s' if self.actors > 1 else ''} with {self.cpus:g} CPU cores and {device} each"


def plan_pool(settings: RunSettings) -> PoolPlan:
    """Divide the cluster: an actor per GPU where there are GPUs, else an actor per 8 cores."""
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
    if settings.device == "cuda" and gpus == 0:
        raise SettingsError("device `cuda` was asked for, but the Ray cluster has no GPU: use `--device cpu`, or add GPU nodes")
    if gpus and settings.device != "cpu":
        fitting = int(gpus / settings.gpus_per_actor)
        actors = settings.actors or fitting
        if actors > fitting:
            raise SettingsError(
                f"{actors} actors with {settings.gpus_per_actor:g} GPU each do not fit on {gpus:g} GPUs: "
                f"use at most {fitting}, or a smaller `gpus_per_actor`"
            )
        return PoolPlan(actors, _share(cpus, actors), settings.gpus_per_actor)
    actors = settings.actors or max(1, int(cpus // CPUS_PER_ACTOR))
    return PoolPlan(actors, _share(cpus, actors), 0.0)


def _share(cpus: float, actors: int) -> float:
    share = cpus / actors
    return float(int(share)) if share >= 1 else round(share, 4)

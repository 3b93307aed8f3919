"""Starting, joining and leaving Ray."""

import contextlib
import os
from collections.abc import Iterator

import ray

from moderation.cluster.joining import direct, join
from moderation.cluster.liveness import watching
from moderation.cluster.nodes import check_versions
from moderation.cluster.own_ray import own_ray
from moderation.cluster.sizing import PoolPlan, plan_pool
from moderation.common.environment import environment
from moderation.common.loopback import direct_loopback

__all__ = ["PoolPlan", "plan_pool", "ray_session"]


@contextlib.contextmanager
def ray_session(address: str | None, run_id: str | None = None) -> Iterator[None]:
    """Ray for the time of a run: the cluster at `address` or RAY_ADDRESS, one that this process has joined, or a fresh one.

    A fresh one is closed to everybody else (see `own_ray`). A cluster that is joined gets this program's code for the time
    of the run, and its nodes' libraries are checked. Loopback never goes through a proxy.

    Args:
        address: `ray://host:10001`, `host:6379`, or `auto` for one that was started on this machine.
        run_id: the run to resume if Ray dies, for the message.

    Raises:
        SettingsError: Ray cannot be started or joined, or the nodes' libraries do not fit.
        RunError: Ray died meanwhile.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    joined = bool(address) and address != "local"
    with (
        environment(direct() if joined else direct_loopback()),
        _joined(str(address)) if joined else own_ray(),
        watching(run_id),
    ):
        if joined:
            check_versions(str(address))
        yield


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    join(address)
    try:
        yield
    finally:
        ray.shutdown()

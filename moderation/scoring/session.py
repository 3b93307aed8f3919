"""Starting, joining and leaving Ray."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray import _raylet
from ray._private import ray_constants

from moderation.errors import SettingsError
from moderation.scoring.cluster import check_versions
from moderation.scoring.joining import join
from moderation.scoring.liveness import watching
from moderation.scoring.sizing import PoolPlan, plan_pool

__all__ = ["PoolPlan", "plan_pool", "ray_session"]

OWN_RAY = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What the processes of a Ray of our own find in their environment, beside their token."""


@contextlib.contextmanager
def ray_session(address: str | None, run_id: str | None = None) -> Iterator[None]:
    """Ray for the time of a run: the cluster at `address` or RAY_ADDRESS, one that this process has joined, or a fresh one.

    A fresh one listens on loopback only and is closed by a token that nobody else knows; its dashboard is off. A cluster
    that is joined gets this program's code for the time of the run, and its nodes' libraries are checked.

    Args:
        address: `ray://host:10001`, `host:6379`, or `auto` for one that was started on this machine.
        run_id: the run to go on with if Ray dies, for the message.

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
    with _joined(str(address)) if joined else _started(), watching(run_id):
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


@contextlib.contextmanager
def _started() -> Iterator[None]:
    """A Ray of our own.

    It takes no address to listen on, but listens on loopback where it believes that this machine can have no cluster, which
    is what it believes of a Mac. Its token is in the environment of its own processes and nowhere else.
    """
    token = secrets.token_hex(32)
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    try:
        with _environment({**OWN_RAY, "RAY_AUTH_TOKEN": token}):
            _renew_authentication("token")
            ray_constants.ENABLE_RAY_CLUSTER = False
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError) as error:
        _renew_authentication(_mode())
        reason = " ".join(str(error).split())[:300]
        hint = "; set RAY_TMPDIR to a folder with a shorter path" if "AF_UNIX path" in reason else ""
        raise SettingsError(f"cannot start Ray on this machine: {reason}{hint}") from None
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
    try:
        yield
    finally:
        ray.shutdown()
        _renew_authentication(_mode())


def _mode() -> str:
    return os.environ.get("RAY_AUTH_MODE", "disabled")


def _renew_authentication(mode: str) -> None:
    """Have Ray read its token anew: it read its environment when it was imported, which may be long ago."""
    raylet: Any = _raylet  # Ray ships stubs for it that leave these out
    raylet.Config.initialize(f'{{"AUTH_MODE": "{mode}"}}'.encode())
    loader = raylet.AuthenticationTokenLoader.instance()
    loader.reset_cache()
    loader.has_token(ignore_auth_mode=True)  # which keeps it in mind


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

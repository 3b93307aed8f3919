"""Joining a Ray cluster: is somebody there, does it let us in, and this program's code for its nodes."""

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import services
from ray.exceptions import AuthenticationError, RayError

from moderation.cluster.search_path import PACKAGE, SafeJobConfig
from moderation.cluster.surroundings import quiet, sigterm_kept
from moderation.common.loopback import direct_loopback
from moderation.errors import SettingsError

CLIENT = "ray://"
ANSWER_S = 10.0
"""Seconds for the cluster's first answer."""
LEFT_HERE = [f"/{PACKAGE.name}/demo/images", f"/{PACKAGE.name}/demo/training", "__pycache__"]
"""What nodes do not need of it."""

_log = logging.getLogger(__name__)
_core: Any = _raylet  # Ray ships stubs for it that leave out most


def join(address: str, with_code: bool = True) -> None:
    """Make this process a driver of the cluster at `address`, and hand the cluster this package.

    A cluster that asks for no token is joined with a warning.

    Raises:
        SettingsError: nobody is there, the token is missing or wrong, or Ray or Python are of another version.
    """
    if os.environ.get("RAY_AUTH_MODE") == "token" and not _has_token():
        raise SettingsError(
            "RAY_AUTH_MODE is `token` but there is no token: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token of "
            f"the Ray cluster at {address}"
        )
    found = knock(address)
    try:
        with quiet(), sigterm_kept(), _code() as code:
            options: dict[str, Any] = {} if address.startswith(CLIENT) else {"job_config": SafeJobConfig()}
            runtime_env = code if with_code else {}
            ray.init(found, runtime_env=runtime_env, log_to_driver=False, logging_level="error", **options)
    except Exception as error:  # noqa: BLE001 - whatever Ray raises, it is not joined
        raise _cannot_join(address, error) from None
    if _core.get_authentication_mode() != _core.AuthenticationMode.TOKEN:
        _log.warning(
            "the Ray cluster at %s does not require a token: anybody who can reach its ports can run code on its nodes; "
            "start them with RAY_AUTH_MODE=token",
            address,
        )


@contextlib.contextmanager
def _code() -> Iterator[dict[str, Any]]:
    """The runtime environment of a job that has this package and nothing else of this machine.

    It is a working directory, since without one Ray has nodes look for code at the driver's paths first. There are no
    variables in it: whoever may read a job's description sees them.
    """
    with tempfile.TemporaryDirectory(prefix="clip-moderation-") as folder:
        Path(folder, PACKAGE.name).symlink_to(PACKAGE)
        yield {"working_dir": folder, "excludes": LEFT_HERE}


def direct() -> dict[str, str]:
    """The variables to set so that a cluster on this machine is joined directly. Ray has the machine's address for loopback."""
    return direct_loopback(also=[services.get_node_ip_address()])


def knock(address: str) -> str:
    """Ask whether a cluster answers at `address`: Ray itself tries for 20 s and more, and fills the screen meanwhile.

    Of a client server, `ray://`, only the port is tried: whether it refuses the token is known when Ray has tried for 30 s.

    Returns:
        the address, `auto` replaced by that of the cluster on this machine

    Raises:
        SettingsError: nobody answers, or whoever does lets this process not in.
    """
    if address.startswith(CLIENT):
        _reach(address, address.removeprefix(CLIENT))
        return address
    return _knock(address)


def _knock(address: str) -> str:
    try:
        found: str = services.canonicalize_bootstrap_address_or_die(_on_this_machine() if address == "auto" else address)
    except Exception as error:  # noqa: BLE001 - Ray raises what it comes across while it reads the address
        raise _malformed(address) if "Invalid address format" in str(error) else _cannot_join(address, error) from None
    _reach(address, found)
    try:
        with quiet():
            _core.GcsClient(address=found)
    except AuthenticationError:
        raise _refused(address) from None
    except RayError as error:
        raise _cannot_join(address, error) from None
    return found


def _on_this_machine() -> str:
    """The address of the one cluster that this user, or root, has a node of on this machine.

    Ray itself would take any user's, and hand it the token: from a file that everybody can write, and from all processes.
    """
    found = set()
    for process in services.psutil.process_iter(["cmdline", "uids"]):
        words, users = process.info["cmdline"], process.info["uids"]
        if users and users.real in (0, os.getuid()) and services._is_raylet_process(words):
            found |= {word.partition("=")[2] for word in words if word.startswith("--gcs-address=")}
    if len(found) != 1:
        what = f"you have {len(found)} running Ray clusters" if found else "you have no running Ray cluster"
        raise ConnectionError(f"{what} on this machine: give the cluster's address")
    return str(found.pop())


def _reach(address: str, found: str) -> None:
    host, _, port = found.rpartition(":")
    if not host or not port.isdecimal():
        raise _malformed(address)
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, UnicodeError, OverflowError) as error:
        source = " (from RAY_ADDRESS)" if os.environ.get("RAY_ADDRESS") == address else ""
        raise SettingsError(
            f"no Ray cluster answers at {address}{source}: {error}: check that it is running and that the address is right"
        ) from None


def _malformed(address: str) -> SettingsError:
    return SettingsError(f"the address of a Ray cluster is host:6379, ray://host:10001 or auto, not {address!r}")


def _refused(address: str) -> SettingsError:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return SettingsError(
            f"the Ray cluster at {address} requires a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to the token of the cluster"
        )
    names = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    place = next((name for name in names if os.environ.get(name)), "~/.ray/auth_token")
    return SettingsError(f"the Ray cluster at {address} refuses the token of {place}: use the token of its nodes")


def _has_token() -> bool:
    try:
        return bool(_core.AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))
    except AuthenticationError:
        return False  # RAY_AUTH_TOKEN_PATH leads nowhere


def _cannot_join(address: str, error: Exception) -> SettingsError:
    reason = " ".join(str(error).split())
    if "Version mismatch" in reason:
        ours = reason.partition(" This process")[0].removeprefix("Version mismatch: ").rstrip(".")
        mine = reason.partition("was started with:")[2].partition("was started with:")[2].strip()
        return SettingsError(f"{ours} at {address}, this process with {mine}: install the cluster's versions of both here")
    if "ray client connection timeout" in reason:  # Ray says no more, whatever the cause
        reason = (
            "Ray's client server does not answer there: its port is 10001 unless the head was given another, and "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN must be those of the cluster"
        )
    if "none of these match this node" in reason:
        reason = f"this machine is not one of its nodes: use {CLIENT}host:10001"
    if "Traceback" in reason:  # of the other side
        reason = reason.rpartition("Error: ")[2]
    return SettingsError(f"cannot join the Ray cluster at {address}: {reason[:300]}")

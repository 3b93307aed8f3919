"""A private Ray on this machine for one run: no other user can reach, read or impersonate it, and it ends with the run.

Ray's token alone does not do that. Ray opens its session folder to everybody, sends the token to whatever listens on a port,
also on one that a dead process has left, and starts agents and a job endpoint beside what a run needs. So its folder is in
one that only this user can enter, all its traffic is TLS with a certificate of the run's own on both sides, and nothing is
started but the GCS, the raylet and workers.
"""

import contextlib
import json
import os
import re
import resource
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray import _raylet
from ray._private import node, ray_constants, services
from ray.exceptions import AuthenticationError

from moderation.cluster.certificate import Certificate, make_certificate
from moderation.cluster.private_folder import PREFIX, mark, private_folder
from moderation.cluster.search_path import SafeJobConfig, python_path
from moderation.cluster.surroundings import quiet, replaced, sigterm_kept
from moderation.common.environment import environment
from moderation.common.loopback import direct_loopback
from moderation.common.scarcity import scarcity
from moderation.errors import SettingsError

KEPT = frozenset(
    {
        "RAY_memory_monitor_refresh_ms",
        "RAY_memory_usage_threshold",
        "RAY_worker_niceness",
        "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES",
        "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION",
        "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE",
    }
)
"""The variables that our own Ray obeys. All others are for clusters, or could break it."""
OWN_RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_USE_TLS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_grpc_enable_http_proxy": "0",
    "GRPC_VERBOSITY": "NONE",
    "PYTHONSAFEPATH": "1",
}
"""What its processes have in their environment, beside secrets and paths."""
START_S, PULSE_S = 180, 0.1
"""Seconds for the GCS, and then the raylet, to come up, and between two looks."""
LIMITS = (
    (resource.RLIMIT_NOFILE, 256, 1, "open files", "n"),
    (resource.RLIMIT_AS, 16, 2**30, "GiB of addresses", "v"),
)
"""What a process must be allowed at least. With two workers, Ray has up to 80 files and 14 GiB of addresses in one."""
SESSION = "session"
LONGEST_SOCKET = f"{PREFIX}12345678/r/{SESSION}/sockets/plasma_store"
MOST_PATH = 103
"""Bytes in the path of a socket: 107 on Linux, 103 on a Mac."""
AGENTS = ("--dashboard_agent_command", "--runtime_env_agent_command")
IDLE = '/bin/sh -c "exec sleep 2147483647"'
"""What runs in their place; it does not mind the arguments that raylets add."""
AGENT_PORTS = ("--metrics-agent-port", "--metrics_export_port", "--runtime_env_agent_port")
AGENT_PORT_NAMES = (
    "METRICS_AGENT_PORT_NAME",
    "METRICS_EXPORT_PORT_NAME",
    "DASHBOARD_AGENT_LISTEN_PORT_NAME",
    "RUNTIME_ENV_AGENT_PORT_NAME",
)
_FATAL = re.compile(r"^\[[^]]* C \d+ \d+\] \(\w+\) [\w.]+:\d+: +(.*)", re.MULTILINE)

_core: Any = _raylet  # Ray ships stubs for it that leave out most


@contextlib.contextmanager
def own_ray() -> Iterator[None]:
    """Start a Ray, and end it with all its processes and files.

    Raises:
        SettingsError: it does not start.
    """
    with contextlib.ExitStack() as stack:
        folder = None
        try:
            _check_limits()
            folder = stack.enter_context(private_folder(_parent()))
            starter = stack.enter_context(ThreadPoolExecutor(1))
            closed = stack.enter_context(socket.socket())
            stack.enter_context(_driver_as_it_was())
            closed.bind(("127.0.0.1", 0))  # and never listen: nobody else can bind the port, and nothing answers there
            _start(folder, starter, closed.getsockname()[1])
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever Ray raises, it has not started
            raise _cannot_start(error, folder) from None
        yield


def _check_limits() -> None:
    """Below them Ray's processes hang, or fail in the midst of a run. It raises that of open files itself as far as it may."""
    try:
        Path.cwd()
    except OSError:
        raise SettingsError("the current folder no longer exists, and Ray needs one: change to another folder") from None
    for kind, least, unit, what, flag in LIMITS:
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY and most < least * unit:
            raise SettingsError(
                f"cannot start Ray on this machine: a process may have {most // unit} {what} here: "
                f"raise the limit to {least} or more (ulimit -{flag})"
            )


def _parent() -> Path:
    """RAY_TMPDIR, or the usual place if sockets in it have paths that are short enough, or /tmp."""
    chosen = os.environ.get("RAY_TMPDIR")
    if not chosen:
        usual = Path(tempfile.gettempdir()).absolute()
        return usual if _is_short(usual) else Path("/tmp")  # noqa: S108 - the folder in it is private
    parent = Path(chosen).expanduser().absolute()
    if not _is_short(parent):
        most = MOST_PATH - len(os.fsencode(LONGEST_SOCKET)) - 1
        raise SettingsError(
            f"the path of RAY_TMPDIR has more than {most} bytes, too many for Ray's sockets: {parent}: "
            "set it to a folder with a shorter path"
        )
    return parent


def _is_short(parent: Path) -> bool:
    return len(os.fsencode(parent / LONGEST_SOCKET)) <= MOST_PATH


def _start(folder: Path, starter: Executor, closed_port: int) -> None:
    token, certificate = secrets.token_hex(32), make_certificate(folder)
    own = _node_class(closed_port)
    with (
        environment(_changes(folder, token, certificate)),
        replaced(node, "Node", own),
        replaced(node, "wait_for_persisted_port", own.gcs_port),
        replaced(services, "get_node", own.registered),
        replaced(services, "ConsolePopen", _process_class(starter, closed_port)),
        sigterm_kept(),
        # Ray takes no address to listen on, but listens on loopback where it believes that a machine can have no cluster.
        replaced(ray_constants, "ENABLE_RAY_CLUSTER", value=False),
        quiet(),
    ):
        _configure()
        ray.init(
            "local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            job_config=SafeJobConfig(),
            _temp_dir=str(folder / "r"),
        )


@contextlib.contextmanager
def _driver_as_it_was() -> Iterator[None]:
    """Disconnect, and have this process's part of Ray go by the user's variables again."""
    try:
        yield
    finally:
        ray.shutdown()
        _configure()


def _configure() -> None:
    """Have Ray read its environment again: it read it when it was imported, which may be long ago."""
    variables = os.environ
    config = {
        "AUTH_MODE": variables.get("RAY_AUTH_MODE", "disabled"),
        "USE_TLS": variables.get("RAY_USE_TLS", "0").lower() in ("1", "true"),
        "TLS_SERVER_CERT": variables.get("RAY_TLS_SERVER_CERT", ""),
        "TLS_SERVER_KEY": variables.get("RAY_TLS_SERVER_KEY", ""),
        "TLS_CA_CERT": variables.get("RAY_TLS_CA_CERT", ""),
        "grpc_enable_http_proxy": variables.get("RAY_grpc_enable_http_proxy", "0").lower() in ("1", "true"),
    }
    _core.Config.initialize(json.dumps(config).encode())
    loader = _core.AuthenticationTokenLoader.instance()
    loader.reset_cache()
    with contextlib.suppress(AuthenticationError):  # the user's RAY_AUTH_TOKEN_PATH may lead nowhere
        loader.has_token(ignore_auth_mode=True)  # which keeps it in mind


def _changes(folder: Path, token: str, certificate: Certificate) -> dict[str, str | None]:
    """What is other in the environment of Ray's processes than in this one's; None is for what is not there at all."""
    changes: dict[str, str | None] = {name: None for name in os.environ if name.startswith("RAY_") and name not in KEPT}
    changes |= OWN_RAY | mark(folder) | direct_loopback()
    changes |= {
        "RAY_AUTH_TOKEN": token,
        "RAY_TLS_SERVER_CERT": str(certificate.certificate),
        "RAY_TLS_SERVER_KEY": str(certificate.key),
        "RAY_TLS_CA_CERT": str(certificate.certificate),
        "PYTHONPATH": python_path(),
    }
    if "TMPDIR" not in os.environ or folder.parent == Path(tempfile.gettempdir()).absolute():
        (folder / "tmp").mkdir()
        changes["TMPDIR"] = str(folder / "tmp")  # what workers leave goes with the run, and has no name that others know
    return changes


def _node_class(closed_port: int) -> type[Any]:
    get_node, wait_for_port = services.get_node, node.wait_for_persisted_port

    class OwnNode(node.Node):  # type: ignore[misc]
        """A head without dashboard, autoscaler and log monitor, whose raylet waits for no agents."""

        starting: ClassVar["OwnNode"]

        def __init__(self, ray_params: Any, **options: Any) -> None:
            ray_params.session_name = SESSION  # with the time and process in it, paths of sockets would be longer
            ray_params.no_monitor = True
            ray_params.include_log_monitor = False
            OwnNode.starting = self
            super().__init__(ray_params, **options)

        def start_api_server(self, **_: Any) -> None:
            self._webui_url = ""

        def start_raylet(self, *arguments: Any, **options: Any) -> None:
            for name in AGENT_PORT_NAMES:
                _core.persist_port(self._session_dir, self._node_id, getattr(_core, name), closed_port)
            super().start_raylet(*arguments, **options)

        @classmethod
        def gcs_port(cls, *arguments: Any, timeout_ms: int) -> Any:
            del timeout_ms
            return cls.starting.wait(ray_constants.PROCESS_TYPE_GCS_SERVER, lambda: wait_for_port(*arguments, timeout_ms=500))

        @classmethod
        def registered(cls, *arguments: Any) -> Any:
            return cls.starting.wait(ray_constants.PROCESS_TYPE_RAYLET, lambda: get_node(*arguments))

        def wait(self, kind: str, ask: Callable[[], Any]) -> Any:
            """Wait for a process to answer as long as it lives. Ray itself waits 30 s: for a dead one too, and no longer."""
            until = time.monotonic() + START_S
            while True:
                code = self.all_processes[kind][0].process.poll()
                if code is not None:
                    raise ChildProcessError(f"its {kind} ended with code {code}")
                try:
                    return ask()
                except Exception:
                    if time.monotonic() > until:
                        raise
                time.sleep(PULSE_S)

    return OwnNode


def _process_class(starter: Executor, closed_port: int) -> type[Any]:
    def own(word: str) -> str:
        """A raylet must have agents, and ends when one of them does: here they are processes that do nothing."""
        name, _, _ = word.partition("=")
        if name in AGENTS:
            return f"{name}={IDLE}"
        return f"{name}={closed_port}" if name in AGENT_PORTS else word

    class OwnProcess(services.ConsolePopen):  # type: ignore[misc]
        """A process that ends with the thread that starts it, `starter`'s, and gets no signals from this one's terminal."""

        def __init__(self, command: list[str], **options: Any) -> None:
            start = super().__init__
            starter.submit(start, list(map(own, command)), start_new_session=True, **options).result()

    return OwnProcess


def _cannot_start(error: Exception, folder: Path | None) -> SettingsError:
    """What Ray says in its logs, which are gone with its folder, tells more than what it raises."""
    reasons = [scarcity(error) or str(error) or type(error).__name__]
    for log in sorted((folder / "r" / SESSION / "logs").glob("*.out")) if folder else ():
        with contextlib.suppress(OSError):
            fatal = _FATAL.findall(log.read_text(errors="replace"))
            reasons += [f"{log.stem}: {reason.rpartition('Check failed: ')[2]}" for reason in fatal]
    reason = " ".join(reasons[-1].split())[:300]
    return SettingsError(f"cannot start Ray on this machine: {reason}")

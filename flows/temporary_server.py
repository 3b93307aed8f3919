"""The temporary server of a run without PREFECT_API_URL: a process of its own, accessible only to the run.

It listens on loopback, on a socket that the run opened and keeps, so that nobody else can stand in for it; it answers
nothing without a password that is made for the run and stands in no command line, log or file. Its database and its home lie
in a folder that only the user can enter, which goes with it. It ends with the run, however that ends.
"""

import contextlib
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from moderation.common.scarcity import scarcity
from moderation.errors import RunError, SettingsError

PREFIX = "clip-moderation-prefect-"
START_S = 180.0
"""Seconds that the server may take to answer; a few are usual."""
STOP_S = 5.0
REACH_S = 10.0
"""Seconds to reach a port of this process's own."""
DATABASE, LOG = "prefect.db", "server.log"
_KEPT = {"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE"}
"""What the server needs of the run's environment. It does not get other variables, such as storage keys."""
_SERVICES = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "EVENT_LOGGER",
    "EVENT_PERSISTER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
    "TASK_RUN_RECORDER",
    "TRIGGERS",
)


class TemporaryServer:
    """A server that starts beside the run: `address` is known at once, `wait` returns when it answers. Always `stop` it."""

    def __init__(self) -> None:
        self.password = f"run:{secrets.token_urlsafe(32)}"
        self.folder = Path()
        self.address = ""
        self._listening: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watching: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Open the port and start the process.

        Raises:
            SettingsError: there is no place for temporary files, or no port on loopback.
            RunError: the machine has no room for one more process.
        """
        listening = self._listening = _listen()
        self.folder = _own_folder()
        host, port = listening.getsockname()[:2]
        self.address = f"http://[{host}]:{port}/api" if ":" in host else f"http://{host}:{port}/api"
        command = [sys.executable, "-P", "-m", "flows.server_process", str(self.folder), str(listening.fileno())]
        try:
            self._launch(command, listening)
        except OSError as error:
            reason = scarcity(error) or error.strerror or error
            raise RunError(f"the temporary Prefect server could not start: {reason}") from None

    def _launch(self, command: list[str], listening: socket.socket) -> None:
        with (self.folder / LOG).open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env=self._environment(),
                pass_fds=[listening.fileno()],
                start_new_session=True,  # Ctrl-C is for the run, which still needs the server
            )

    def wait(self) -> None:
        """Wait until it answers. Raises `RunError` if it cannot start."""
        ready = self._ready(time.monotonic() + START_S)
        if not ready:
            reason = self._last_line() or f"it did not answer within {START_S:g} s"
            raise RunError(f"the temporary Prefect server could not start: {reason} (its files were in {self.folder.parent})")
        self._watching = threading.Thread(target=self._hang_up_once_it_is_gone, name="temporary server", daemon=True)
        self._watching.start()

    def stop(self) -> None:
        """Stop it and remove its files, whatever state it is in. Quick; raises nothing."""
        self._stopping = True
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()  # type: ignore[union-attr]
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._listening is not None:
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
            self._listening.close()
        if self._watching is not None:
            self._watching.join(STOP_S)
            self._output.close()
        if self.folder.name:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
        return {
            **kept,
            "HOME": kept.get("HOME") or str(self.folder),
            **own_settings(self.folder),
            **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _SERVICES},
            "PREFECT_SERVER_API_AUTH_STRING": self.password,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.folder / DATABASE}",
            "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
            "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "ERROR",
        }

    def _ready(self, until: float) -> bool:
        pipe = self._output
        while time.monotonic() < until:
            if select.select([pipe], [], [], 1.0)[0]:
                return bool(pipe.readline())
        return False

    @property
    def _output(self) -> IO[bytes]:
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        return self._process.stdout

    def _last_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.folder / LOG).read_text(errors="replace").split("\n")
            return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
        return ""

    def _hang_up_once_it_is_gone(self) -> None:
        """If the server dies before the run, the run, which still holds the port, refuses requests at once."""
        with contextlib.suppress(OSError, ValueError):
            while self._output.read(1024):
                pass
            while not self._stopping and self._listening is not None:
                self._listening.accept()[0].close()


def own_settings(folder: Path) -> Mapping[str, str]:
    """Prefect settings, as variables, with which neither run nor server looks at the user's Prefect."""
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def _own_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()  # 0700
    except OSError as error:
        raise SettingsError(
            f"cannot store the temporary Prefect server's files: {error.strerror or error}: set TMPDIR to a folder that "
            "can be written, or set PREFECT_API_URL to a server that you run"
        ) from None


def _listen() -> socket.socket:
    reasons = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            listening = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            reasons.append(f"{host}: {error.strerror}")
            continue
        try:
            listening.bind((host, 0))
            listening.listen(128)
            with socket.create_connection(listening.getsockname()[:2], REACH_S):  # loopback may be down
                listening.accept()[0].close()
        except OSError as error:
            listening.close()
            reasons.append(f"{host}: {error.strerror}")
        else:
            return listening
    raise SettingsError(
        f"no port on loopback for the temporary Prefect server ({'; '.join(reasons)}): free one, or set PREFECT_API_URL to a "
        "server that you run"
    )

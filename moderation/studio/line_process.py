"""A process beside the server that answers lines with lines. It starts when it is needed, and is killed when it is too slow."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from moderation.errors import RunError


class ProcessDiedError(RunError):
    """The process died, or was killed since it took too long."""


class LineProcess:
    """Runs `python -m module arguments`. One question at a time; threads wait for each other."""

    def __init__(
        self, module: str, start: bytes, arguments: Sequence[str] = (), variables: Mapping[str, str] | None = None
    ) -> None:
        """`start` is what each answer begins with; other output is skipped. `variables` are added to the environment."""
        self._environment = {**os.environ, **(variables or {})}
        self._command = [sys.executable, "-P", "-m", module, *arguments]
        self._start = start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether it was started and lives."""
        return self._process is not None and self._process.poll() is None

    def ask(self, line: bytes, timeout_s: float) -> bytes:
        """The answer, without what it begins with. Raises `ProcessDiedError`; the next question starts a new process."""
        with self._lock:
            process = self._started()
            late = threading.Timer(timeout_s, process.kill)
            late.start()
            try:
                return self._asked(process, line)
            except (OSError, ValueError):
                raise ProcessDiedError("the process beside the server died") from None
            finally:
                late.cancel()

    def close(self) -> None:
        """End it."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._closed:
            raise ProcessDiedError("the studio is ending")
        if self._process is None or self._process.poll() is not None:
            if self._process is not None:
                self._drop(self._process)
            # A session of its own: Ctrl-C in the terminal is for the server, which ends it.
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=self._environment,
            )
        return self._process

    def _asked(self, process: "subprocess.Popen[bytes]", line: bytes) -> bytes:
        if process.stdin is None or process.stdout is None:
            raise ValueError("no pipes")
        process.stdin.write(line)
        process.stdin.flush()
        for found in process.stdout:
            if found.startswith(self._start):
                return found[len(self._start) :]
        process.kill()
        process.wait()
        self._process = None
        self._drop(process)
        raise ProcessDiedError("the process beside the server died, or took too long")

    def _drop(self, process: "subprocess.Popen[bytes]") -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

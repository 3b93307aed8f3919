"""A command in a terminal of its own, so that Ctrl-C reaches what it starts as it does for a person."""

import os
import pty
import re
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process whose terminal we are. Give it `close` at the end."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a test started by `&` ignores them
                signal.signal(number, signal.SIG_DFL)
            os.chdir(folder)
            os.execve(command[0], list(command), dict(environment))  # noqa: S606
        self._output = b""
        self.code: int | None = None

    @property
    def text(self) -> str:
        """What was shown, without colours."""
        return _CONTROL.sub("", self._output.decode(errors="replace"))

    def read_until(self, text: str, seconds: float) -> None:
        """Read until it shows some text. Fails if it ends first."""
        until = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < until, self.text[-3000:]
            assert self._read(), self.text[-3000:]

    def control_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Close the terminal, as a person closes a window."""
        os.close(self._terminal)
        self._terminal = -1

    def wait(self, seconds: float) -> float:
        """Read on until it ends; seconds that this took."""
        began = time.monotonic()
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.code = os.waitstatus_to_exitcode(status)
                while self._terminal >= 0 and self._read():
                    pass
                return time.monotonic() - began
            assert time.monotonic() - began < seconds, self.text[-3000:]
            if self._terminal < 0:
                time.sleep(0.05)
            else:
                self._read()

    def close(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._terminal >= 0:
            os.close(self._terminal)

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], 0.1)[0]:
            return True
        try:
            read = os.read(self._terminal, 65536)
        except OSError:  # nobody is at the other end any more
            time.sleep(0.05)
            return False
        self._output += read
        return bool(read)

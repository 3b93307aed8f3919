"""Ctrl-C, SIGTERM and SIGHUP end a command alike: within seconds, with one line and exit code 128 + the signal's number.

The first one raises `KeyboardInterrupt` in the main thread, which clears up. A thread of its own sees to it that this does not
take long, whatever the main thread hangs in: after some seconds, or at the second Ctrl-C, the process ends at once.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 15.0
"""Seconds for clearing up."""
BOUNCE_S = 0.5
"""Two Ctrl-C within so short a time are one, which a wrapper passed on."""


class _Stop:
    """What is known of the signal that ends this process."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.came = threading.Event()
        self.message = "stopped"
        self.said = False
        self.listening = False
        self.heard: tuple[signal.Signals, ...] = ()


_stop = _Stop()


def listen() -> None:
    """Start to handle the signals, except those that the parent process set to be ignored (`nohup`, `&`)."""
    if _stop.listening or threading.current_thread() is not threading.main_thread():
        return
    _stop.listening = True
    heard = _stop.heard = tuple(number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # Python writes to it at once, in whatever the main thread hangs
    threading.Thread(target=_watch, args=(reading, frozenset(heard)), name="signals", daemon=True).start()
    for number in heard:
        signal.signal(number, _interrupt)
    sys.excepthook = _uncaught


def listen_again() -> None:
    """Handle the signals still: Ray and Prefect put handlers of their own in place when they start."""
    if _stop.listening and _stop.number is None and threading.current_thread() is threading.main_thread():
        for number in _stop.heard:
            signal.signal(number, _interrupt)


def on_stop(message: str) -> None:
    """What the process says if it must end without clearing up."""
    _stop.message = message


def stopped_by(error: BaseException) -> int | None:
    """The number of the signal that made this error, whichever library turned it into one; None where no signal did."""
    if isinstance(error, KeyboardInterrupt):
        _stop.came.wait(1.0)  # the thread may be behind
    if _stop.number is None and isinstance(error, KeyboardInterrupt):
        return int(signal.SIGINT)
    return _stop.number


def end(number: int, message: str | None = None) -> NoReturn:
    """End the command with a line and the exit code of a signal."""
    _say(message or _stop.message)
    sys.exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what Python calls
    for each in SIGNALS:  # once: what clears up is not interrupted again
        if signal.getsignal(each) is _interrupt:
            signal.signal(each, _ignore)
    raise KeyboardInterrupt


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Interrupted where nobody expects it, while modules are imported: a line, no stack trace."""
    if kind is KeyboardInterrupt:
        stopped_by(error)
        _end_now()
    sys.__excepthook__(kind, error, trace)


def _ignore(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - its byte reaches the thread all the same
    return


def _watch(reading: int, heard: frozenset[int]) -> None:
    first = -BOUNCE_S
    while True:
        for number in os.read(reading, 64):
            if number not in heard:
                continue
            if _stop.number is None:
                _stop.number, first = number, time.monotonic()
                _stop.came.set()
                threading.Thread(target=_end_after_grace, name="grace", daemon=True).start()
            elif number == signal.SIGINT and time.monotonic() - first > BOUNCE_S:
                _end_now()


def _end_after_grace() -> None:
    time.sleep(GRACE_S)
    _end_now()


def _end_now() -> NoReturn:
    _say(_stop.message)
    os._exit(128 + (_stop.number or signal.SIGINT))


def _say(line: str) -> None:
    """To standard error, past everything that may be locked, and once. A terminal may be gone, or its cursor hidden."""
    if _stop.said:
        return
    _stop.said = True
    with contextlib.suppress(OSError, ValueError):
        cursor = "\x1b[?25h\r\x1b[K" if os.isatty(2) else ""
        os.write(2, f"{cursor}{line}\n".encode(errors="backslashreplace"))

"""What this process lends to Ray for a moment: its error output, parts of Ray's modules."""

import contextlib
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from ray._private import utils


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute with another value for the time of the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Leave SIGTERM to whoever started this process: Ray would have it exit with code 15, or with a stack trace."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with replaced(utils, "set_sigterm_handler", lambda _: None):
            yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ray's core writes to the terminal past Python what is then raised as well."""
    with tempfile.TemporaryFile() as elsewhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        terminal = os.dup(2)
        os.dup2(elsewhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)

"""The process that cleans up after a run, however the run ends: no process of it stays, and no file.

Run as a script, with nothing but the standard library: `python -I -S cleaner.py FOLDER`. It waits for the end of its standard
input, which is the end of the run's process, or for that process to be gone.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "CLIP_MODERATION_FOLDER"
"""The variable by which processes of a run are known: all of them inherit it, and it names their folder."""
PATIENCE_S = 20.0
"""Seconds in which processes that are killed must be gone."""


def clean(folder: str) -> None:
    """Kill every process of the run that has this folder, and remove the folder."""
    until = time.monotonic() + PATIENCE_S
    while (processes := _processes(folder)) and time.monotonic() < until:
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def _processes(folder: str) -> list[int]:
    mark = os.fsencode(f"{MARK}={folder}")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # somebody else's, or ended meanwhile
            if mark in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def main() -> None:
    """Wait, then clean."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    run = os.getppid()
    while os.getppid() == run and not select.select([0], [], [], 1.0)[0]:
        pass
    clean(sys.argv[1])


if __name__ == "__main__":
    main()

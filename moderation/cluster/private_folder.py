"""A folder of a run's own: no other user can enter it, and it is gone when the run has ended, however it ended."""

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from moderation.cluster import cleaner
from moderation.errors import SettingsError

PREFIX = "clip-moderation-ray-"
CLEANING_S = 60.0
"""Seconds to wait for the cleaner."""


@contextlib.contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A new folder with mode 0700 below `parent`.

    A process beside this one removes it when the block is left or this process has ended, and kills whatever was started with
    `mark(folder)` in its environment. What an earlier run left because that process was killed too is removed first.

    Raises:
        SettingsError: `parent` cannot be written, or another user can replace what lies there.
    """
    _check(parent)
    _remove_stale(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise SettingsError(
            f"cannot create a temporary folder for Ray in {parent}: {error.strerror or error}: "
            "set RAY_TMPDIR to a folder that can be written"
        ) from None
    with contextlib.ExitStack() as stack:
        stack.callback(cleaner.clean, str(folder))  # nothing is left to do, unless the cleaner was killed
        lock = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        stack.enter_context(_cleaner(folder))
        yield folder


def mark(folder: Path) -> dict[str, str]:
    """What the processes of a run have in their environment, for the cleaner to know them by."""
    return {cleaner.MARK: str(folder)}


@contextlib.contextmanager
def _cleaner(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-I", "-S", str(Path(cleaner.__file__)), str(folder)]
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 - this very Python
            command, stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True
        )
    finally:
        os.close(reading)
    try:
        yield
    finally:
        os.close(writing)
        try:
            process.wait(CLEANING_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _check(parent: Path) -> None:
    """Refuse a place where another user can put something else under the name of our folder."""
    try:
        way = {parent, *parent.parents, parent.resolve(strict=True), *parent.resolve().parents} - {Path(parent.anchor)}
        shared = [folder for folder in way if _is_shared(folder)]
    except OSError as error:
        raise SettingsError(
            f"cannot create a temporary folder for Ray in {parent}: {error.strerror or error}: "
            "set RAY_TMPDIR to a folder that exists and can be written"
        ) from None
    if shared:
        raise SettingsError(
            f"other users can replace what is in {shared[0]}, so Ray's temporary folder is not safe there: "
            "set RAY_TMPDIR to your own folder"
        )


def _is_shared(folder: Path) -> bool:
    """Whether others may rename or remove what they do not own in it, or the link that leads to it.

    The volumes of a pod of Kubernetes may be written by all, as `/tmp` elsewhere, but without the bit that keeps what is
    somebody else's from being renamed. Nobody else is there.
    """
    status = folder.stat()
    owners = {status.st_uid, folder.lstat().st_uid}
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    return bool(writable and "KUBERNETES_SERVICE_HOST" not in os.environ) or not owners <= {0, os.getuid()}


def _remove_stale(parent: Path) -> None:
    """Remove folders of runs of this user that have ended."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its run lasts
                cleaner.clean(str(folder))
            finally:
                os.close(lock)

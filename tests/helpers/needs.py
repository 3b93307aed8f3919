"""What a test needs that a machine may lack. Without it the test is skipped, with the thing's name and how to get it.

On a test or a file:

    pytestmark = needs_chromium

    @needs_program("npm", "apt-get install npm")
    def test_...

In a fixture, or in one case of several:

    require(needs_nginx)

No test skips itself by hand: with `FORBID_SKIPS=1`, as in `.ci/run`, a skip is a failure (`skips.py`).
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from places import SHARED

"""Test data beside the repository, which a public clone does not have."""
DATA = SHARED / "data"

_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")  # daemons and root's tools: often not on a user's PATH


def needs(met: bool, what: str, how: str = "") -> pytest.MarkDecorator:
    """Skip unless `met`. `what` completes "needs ..."; `how` says how to get it."""
    return pytest.mark.skipif(not met, reason=f"needs {what}" + (f": {how}" if how else ""))


def require(need: pytest.MarkDecorator) -> None:
    """Skip from here, unless what is needed is there."""
    if need.args[0]:
        pytest.skip(need.kwargs["reason"])


def find_program(*names: str) -> str | None:
    """The path of the first of these programs that is installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def needs_program(name: str, how: str, *other_names: str) -> pytest.MarkDecorator:
    """Skip where none of a program's names is installed: `needs_program("nginx", "apt-get install nginx-light")`."""
    return needs(find_program(name, *other_names) is not None, name, how)


# Programs

CHROMIUM = find_program("chromium", "chromium-browser", "google-chrome")

needs_bash = needs_program("bash", "apt-get install bash")
needs_chromium = needs(None not in (CHROMIUM, find_program("bash")), "chromium", "apt-get install chromium")
needs_compiler = needs_program(os.environ.get("CXX", "g++"), "apt-get install g++")
needs_nginx = needs_program("nginx", "apt-get install nginx-light")
needs_npm = needs_program("npm", "apt-get install npm")
needs_setpriv = needs_program("setpriv", "apt-get install util-linux")
needs_ss = needs_program("ss", "apt-get install iproute2")

POSTGRES_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
needs_postgres = needs(
    any((folder / "initdb").exists() for folder in POSTGRES_FOLDERS) or find_program("initdb") is not None,
    "PostgreSQL's server",
    "apt-get install postgresql",
)

# Who runs the tests, and where

needs_root = needs(os.geteuid() == 0, "root")
needs_plain_user = needs(os.geteuid() != 0, "a user other than root", "root may read everything")
needs_linux = needs(Path("/proc/self/clear_refs").exists(), "Linux", "it is measured in /proc")
needs_fifos = needs(hasattr(os, "mkfifo"), "FIFOs", "run on Linux or macOS")


@cache
def needs_mount() -> pytest.MarkDecorator:
    """Skip where no file system may be mounted: not as root, or in a container without that right."""
    done = 1
    if os.geteuid() == 0 and find_program("mount", "umount"):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False).returncode
            if not done:
                subprocess.run(["umount", folder], check=True)
    return needs(not done, "the right to mount a file system", "run as root, in a container with CAP_SYS_ADMIN")


@cache
def needs_network_namespaces() -> pytest.MarkDecorator:
    """Skip where this user may make no network namespace."""
    program = find_program("unshare")
    done = subprocess.run([program, "-n", "true"], capture_output=True, check=False).returncode if program else 1
    return needs(not done, "the right to make a network namespace", "run as root, with unshare (apt-get install util-linux)")


@cache
def needs_cuda() -> pytest.MarkDecorator:
    """Skip where torch sees no GPU."""
    import torch

    return needs(torch.cuda.is_available(), "a CUDA device", "run on a machine with an NVIDIA GPU")


@cache
def needs_no_cuda() -> pytest.MarkDecorator:
    """Skip where torch sees a GPU: what is tested is its absence."""
    import torch

    return needs(not torch.cuda.is_available(), "a machine without a CUDA device", "set CUDA_VISIBLE_DEVICES=")


def needs_no_library(name: str, how: str) -> pytest.MarkDecorator:
    """Skip where an optional library is installed: what is tested is its absence."""
    return needs(importlib.util.find_spec(name) is None, f"an environment without {name}", how)


# Files


def needs_shared(folder: str) -> pytest.MarkDecorator:
    """Skip where `../shared/<folder>` is absent."""
    return needs((SHARED / folder).is_dir(), f"../shared/{folder}", "test data that is not part of a public clone")


needs_data = needs_shared("data")


def shared_files(folder: str, pattern: str = "*") -> list[Any]:
    """Cases of `pytest.mark.parametrize`: the files of `../shared/<folder>`; one that is skipped where they are absent."""
    absent = pytest.param(SHARED / folder, id="absent", marks=needs_shared(folder))
    return list(_files(SHARED / folder, pattern)) or [absent]


def _files(folder: Path, pattern: str) -> Iterable[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def needs_emoji_font() -> pytest.MarkDecorator:
    """Skip where the font is absent from which the demo's pictures were drawn."""
    from moderation.demo.training.render import FontMissingError, find_font

    try:
        found: Path | None = find_font()
    except FontMissingError:
        found = None
    return needs(found is not None, "the font Noto Color Emoji", "apt-get install fonts-noto-color-emoji")


def needs_writer(kind: str) -> pytest.MarkDecorator:
    """Skip where Pillow cannot write a format: `AVIF`."""
    from PIL import Image

    Image.init()
    return needs(kind in Image.SAVE, f"Pillow that writes {kind}", "pip install pillow, as a wheel")

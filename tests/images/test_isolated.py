"""The process that decodes one image: it opens nothing, has limits of the system, and ends with whoever started it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from needs import needs_linux
from places import ROOT
from strange_drawings import filtered, svg

from moderation.errors import ErrorCode, ImageError
from moderation.images.decoding import DecodedImage
from moderation.images.guarding import Deadline
from moderation.images.isolated.running import decoded, package_folder
from moderation.images.limits import ImageLimits

pytestmark = needs_linux

LIBRARY = package_folder("resvg_py").parent
ENDLESS = filtered('<feGaussianBlur stdDeviation="50"/>' * 9000)
TRIED = """
import json, os, socket, sys, threading
from moderation.images.isolated.child import Order, confine
source, target = os.memfd_create("a"), os.memfd_create("b")
confine(Order("svg", "", source, target, 5.0, 64 << 20, os.getppid(), []))
failed = []
for name, what in {
    "open": lambda: open("/etc/passwd"),
    "socket": lambda: socket.socket(),
    "memory": lambda: bytearray(128 << 20),
    "output": lambda: [os.write(target, bytes(16 << 20)) for _ in range(9)],
    "raise a limit": lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_CPU, (99, 99)),
}.items():
    try:
        what()
    except (OSError, MemoryError, ValueError) as error:
        failed.append(name)
print(json.dumps(failed))
"""


def children(pid):
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(one) for one in tasks.read_text().split()]
    return found


def until(met, seconds=20):
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def test_nothing_can_be_opened_and_little_be_taken():
    done = subprocess.run([sys.executable, "-c", TRIED], capture_output=True, text=True, check=True, cwd=ROOT)
    failed = set(json.loads(done.stdout))
    assert failed >= {"open", "socket", "memory", "output"}
    assert os.geteuid() == 0 or "raise a limit" in failed  # root may raise its own


def test_its_environment_is_empty_and_it_gets_no_other_files(tmp_path):
    secret = (tmp_path / "secret").open("w")
    before = set(children(os.getpid()))
    with secret:
        os.set_inheritable(secret.fileno(), True)  # noqa: FBT003
        thread = threading.Thread(target=fail, args=(5,))
        thread.start()
        until(lambda: set(children(os.getpid())) - before)
        [pid] = set(children(os.getpid())) - before
        until(lambda: "-I" in Path(f"/proc/{pid}/cmdline").read_text())
        try:
            assert Path(f"/proc/{pid}/environ").read_bytes() in (b"", b"LC_CTYPE=C.UTF-8\0")
            held = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
            assert str(tmp_path / "secret") not in held
        finally:
            os.kill(pid, signal.SIGKILL)
            thread.join()


def fail(seconds):
    with pytest.raises(ImageError):
        slow(seconds)


def slow(seconds):
    list(DecodedImage(ENDLESS, ImageLimits(max_seconds=seconds)).frames())


def test_one_that_somebody_ends_is_no_fault_of_the_image():
    found = []

    def work():
        with pytest.raises(ImageError) as caught:
            slow(60)
        found.append(caught.value)

    before = set(children(os.getpid()))
    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: set(children(os.getpid())) - before)
    [pid] = set(children(os.getpid())) - before
    os.kill(pid, signal.SIGKILL)
    thread.join()
    assert found[0].code is ErrorCode.WORKER_KILLED
    assert "SIGKILL" in found[0].detail


def test_it_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "endless.svg").write_bytes(ENDLESS)
    text = (
        "import sys; from moderation.images.decoding import DecodedImage; from moderation.images.limits import ImageLimits\n"
        "list(DecodedImage(open(sys.argv[1], 'rb').read(), ImageLimits(max_seconds=200)).frames())"
    )
    with subprocess.Popen([sys.executable, "-c", text, str(tmp_path / "endless.svg")], cwd=ROOT) as parent:
        until(lambda: children(parent.pid), 60)
        [pid] = children(parent.pid)
        parent.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def test_memory_and_time_that_are_too_little_are_said_so():
    text = svg(attributes='xmlns:a="urn:a" width="3000" height="3000"')
    with pytest.raises(ImageError, match="too_many_pixels: decoding takes more than the 1 MiB"):
        decoded("svg", LIBRARY, text, Deadline(10), 1 << 20)
    deadline = Deadline(10)
    decoded("svg", LIBRARY, text, deadline, 256 << 20)
    assert 0 < deadline.left < 9.99
    deadline = Deadline(0.2)
    with pytest.raises(ImageError, match=r"worker_timeout: decoding took longer than 0.2 s"):
        decoded("svg", LIBRARY, ENDLESS, deadline, 256 << 20)


def test_no_file_is_left_open():
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        list(DecodedImage(svg(), ImageLimits()).frames())
    assert len(list(Path("/proc/self/fd").iterdir())) == before

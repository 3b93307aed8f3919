"""No process of a Ray of a run's own outlives the run, and no file, however the run ends."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from own_rays import driver_with_ray, wait_until
from support import descendants

from moderation.cluster import cleaner
from moderation.cluster.private_folder import PREFIX, private_folder
from moderation.demo import POLICY_FILE


def state(process: int) -> str:
    """`gone`, or the letter that the kernel has for it; Z is one that nobody has asked about since it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, "end"])
def test_no_process_and_no_file_is_left_when_a_run_ends(way: signal.Signals | str) -> None:
    with driver_with_ray() as driver:
        processes = driver.processes
        assert driver.actor in processes
        assert len(processes) > 4  # the child of the actor is among them
        if isinstance(way, signal.Signals):
            driver.process.send_signal(way)
            said, complaints = driver.process.communicate(timeout=60)
            assert driver.process.returncode == -way
            assert "Traceback" not in complaints
        else:
            said, complaints = driver.process.communicate("", timeout=120)
            assert (said, driver.process.returncode) == ("over\n", 0), complaints
            assert not driver.folder.exists()  # at once
        wait_until(lambda: not driver.folder.exists(), "files are left")
        wait_until(lambda: {state(process) for process in processes} <= {"gone", "Z"}, "processes are left")


def test_what_a_killed_cleaner_leaves_is_removed_by_the_next_run() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # paths of sockets must be short
        place = Path(folder)
        with driver_with_ray(RAY_TMPDIR=str(place)) as driver:
            [watching] = [pid for pid, name in descendants(driver.process.pid).items() if "cleaner.py" in name]
            os.kill(watching, signal.SIGKILL)
            driver.process.kill()
            driver.process.wait()
            left = driver.folder
            assert left.parent == place
            with private_folder(place) as in_use, driver_with_ray(RAY_TMPDIR=str(place)):
                assert not left.exists()
                assert cleaner._processes(str(left)) == []
                assert in_use.exists()
        wait_until(lambda: not list(place.glob(f"{PREFIX}*")), "files are left")


@pytest.mark.slow
def test_no_process_and_no_file_is_left_when_the_command_is_killed_while_scoring(demo_images: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(20):
        shutil.copytree(demo_images, tmp_path / "in" / str(number))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PREFECT_"))}
    environment |= {"HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [sys.executable, "-m", "moderation.cli", "run", "in", "-p", str(POLICY_FILE), "-o", "out", "--shard-size", "100"]
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 400
        while not list((tmp_path / "out").glob("_staging/*/*")) or "ray::_Actor" not in str(descendants(run.pid)):
            assert run.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        [watching] = [name for name in descendants(run.pid).values() if "cleaner.py" in name]
        folder = watching.split()[-1]
        assert cleaner._processes(folder)
    finally:
        run.kill()
        run.wait()
    wait_until(lambda: not cleaner._processes(folder), "processes are left")
    wait_until(lambda: not Path(folder).exists(), "files are left")


THREADED = """
import threading, time
import ray
from moderation.cluster.session import ray_session

session = ray_session(None)
thread = threading.Thread(target=session.__enter__)
thread.start()
thread.join()
time.sleep(3)
print("alive", ray.get(ray.remote(lambda: 5).remote()))
session.__exit__(None, None, None)
"""


def test_ray_does_not_end_with_the_thread_that_started_it() -> None:
    done = subprocess.run([sys.executable, "-c", THREADED], capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout == "alive 5\n", done.stderr

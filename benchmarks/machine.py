"""What a benchmark ran on, in words that name no machine: cores, memory, GPU, software."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "open_clip_torch", "ray", "pyarrow", "pillow", "obstore", "numpy")


def machine() -> str:
    """For example "2 cores of AMD EPYC, 24 GB of memory, no GPU"."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{cores()} cores of {_processor()}, {memory:.0f} GB of memory, {_gpu() or 'no GPU'}"


def software() -> str:
    """For example "Linux x86_64, Python 3.11.7, torch 2.9.1, ...". A GPU machine needs only some of the packages."""
    packages = [f"{name} {number}" for name in PACKAGES if (number := _version(name))]
    return ", ".join([f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}", *packages])


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpu() -> str:
    """The first GPU's name and memory, and how many there are; nothing without one."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ""
    asked = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    found = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    names = found.stdout.splitlines() if found.returncode == 0 else []
    return f"{len(names)} x {names[0]}" if names else ""

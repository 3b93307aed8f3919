"""Where Ray's workers look for modules: not in the driver's folders, where any file may bear the name of a standard module."""

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ray.job_config import JobConfig

PACKAGE = Path(__file__).parents[1]


class SafeJobConfig(JobConfig):  # type: ignore[misc]
    """A job whose workers search neither the driver's current folder nor that of its script, as Ray has them do."""

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path: list[str] = []
        return super()._get_proto_job_config()


def python_path() -> str | None:
    """PYTHONPATH for workers: the user's, and this package's folder where this process has it from the current folder only.

    Empty parts are left out: they would stand for the current folder.
    """
    parts = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    rest = [part for part in sys.path[1:] if part]
    if PathFinder.find_spec(PACKAGE.name, [*rest, *parts]) is None:
        parts.append(str(PACKAGE.parent))
    return os.pathsep.join(parts) or None

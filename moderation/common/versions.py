"""Versions of the software that made a run, for its manifest."""

import platform
from importlib.metadata import version

PACKAGES = (
    "clip-moderation",
    "great-expectations",
    "numpy",
    "obstore",
    "open_clip_torch",
    "pillow",
    "pillow-heif",
    "prefect",
    "pyarrow",
    "ray",
    "torch",
)


def versions() -> dict[str, str]:
    """Package names and versions, and Python's."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}

"""Versions of the software that made a run, for its manifest."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

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
OPTIONAL = ("pylibjxl", "resvg-py")
"""Without them, JPEG XL and SVG are not read."""


def versions() -> dict[str, str]:
    """Package names and versions, and Python's."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    for name in OPTIONAL:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found

"""Ray reads its variables while it is imported, and ends the process without a word at one that it cannot read."""

import os
import subprocess
import sys
from collections.abc import Iterable

from moderation.errors import SettingsError

READ_LATER = frozenset(
    {
        "RAY_ADDRESS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_TLS_CA_CERT",
        "RAY_TLS_SERVER_CERT",
        "RAY_TLS_SERVER_KEY",
        "RAY_TMPDIR",
        "RAY_USAGE_STATS_ENABLED",
        "RAY_USE_TLS",
    }
)
"""The usual ones, which are text or read when they are needed."""
IMPORT_S = 120.0
"""Seconds in which Ray must be imported."""


def check_variables() -> None:
    """See in another process whether Ray can be imported, if there are variables that it may stumble over.

    Raises:
        SettingsError: it cannot, because of the variables that the message names.
    """
    unusual = sorted(name for name in os.environ if name.startswith("RAY_") and name not in READ_LATER)
    if not unusual or "ray" in sys.modules or _imports(unusual):
        return
    bad = [name for name in unusual if not _imports([name])]
    if bad and _imports([]):
        raise SettingsError(f"Ray cannot read what is in {', '.join(bad)}: correct it, or unset it")


def _imports(names: Iterable[str]) -> bool:
    """Whether Ray can be imported with these variables and no other of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    tried = kept | {name: os.environ[name] for name in names}
    command = [sys.executable, "-P", "-c", "import ray"]
    try:
        return subprocess.run(command, env=tried, capture_output=True, check=False, timeout=IMPORT_S).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False

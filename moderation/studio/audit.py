"""The audit log: who changed what, one line of JSON each, in a file of this machine that only its owner reads."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from moderation.errors import OutputError


def default_place() -> Path:
    """Where the log of this user lies."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "clip-moderation" / "studio-audit.jsonl"


class AuditLog:
    """Appends to the log. Threads may write at the same time."""

    def __init__(self, path: Path, results: str, user: str) -> None:
        self.path = path
        self._always = {"user": user, "results": results}
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make sure that it can be written. Raises `OutputError`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(self._file())
        except OSError as error:
            raise OutputError(
                f"cannot write the audit log {str(self.path)!r}: {(error.strerror or str(error)).lower()}; "
                "set XDG_STATE_HOME to a folder that can be written"
            ) from None

    def write(self, what: str, **details: str) -> None:
        """One line, on disk when this returns. Call it before the change, so that no change goes without its line.

        Raises `OutputError`.
        """
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "what": what, **self._always, **details}
        data = (json.dumps(line, ensure_ascii=True) + "\n").encode()
        try:
            with self._lock:
                file = self._file()
                try:
                    os.write(file, data)
                    os.fsync(file)
                finally:
                    os.close(file)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"nothing was changed: the audit log {str(self.path)!r} cannot be written: {reason}") from None

    def _file(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

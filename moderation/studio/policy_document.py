"""A policy file that is edited: read, compared and written as the bytes that it has, whatever its line ends."""

import difflib
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from moderation.errors import OutputError, PolicyError
from moderation.policy.including import read_text

_BOM = b"\xef\xbb\xbf"


class ConflictError(OutputError):
    """The file is another than the one that was opened."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file as it was read."""

    text: str
    """with line ends as \\n"""
    digest: str
    """SHA-256 of its bytes"""


class PolicyDocument:
    """One of the files that `--policy` names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Opened:
        """The file as it is now. Raises `PolicyError`."""
        try:
            text, finding = read_text(self.path)
            raw = self.path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise PolicyError(f"cannot read the policy {str(self.path)!r}: {reason.lower()}") from None
        if finding is not None:
            raise PolicyError(str(finding))
        return Opened(_plain(text), hashlib.sha256(raw).hexdigest())

    def difference(self, text: str) -> list[str]:
        """What saving `text` would change: a unified diff, without its two lines of names; empty if nothing."""
        before, after = self.read().text.split("\n"), _plain(text).split("\n")
        return list(difflib.unified_diff(before, after, lineterm=""))[2:]

    def save(self, text: str, opened: str) -> Opened:
        """Replace the file, in one step, with its kind of line ends and its permissions kept.

        Args:
            text: the whole file.
            opened: the digest that the file had when it was opened.

        Raises:
            ConflictError: it has another one now.
            OutputError: it cannot be written.
        """
        target = self.path.resolve()
        try:
            before = target.read_bytes()
            if hashlib.sha256(before).hexdigest() != opened:
                raise ConflictError(
                    f"{self.path.name} was changed by somebody else since you opened it: nothing was saved. Copy your text, "
                    "reload the page, and make your changes again"
                )
            ends = "\r\n" if before.count(b"\r\n") * 2 > before.count(b"\n") else "\n"
            after = (_BOM if before.startswith(_BOM) else b"") + _plain(text).replace("\n", ends).encode()
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
                try:
                    file.write(after)
                    file.flush()
                    os.fsync(file.fileno())
                    shutil.copymode(target, file.name)
                    if target.read_bytes() != before:
                        raise ConflictError(f"{self.path.name} was changed while it was saved: nothing was saved")
                    os.replace(file.name, target)
                except BaseException:
                    os.unlink(file.name)  # noqa: PTH108
                    raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"cannot write {str(self.path)!r}: {reason}; nothing was saved") from None
        return Opened(_plain(text), hashlib.sha256(after).hexdigest())


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")

"""What is wrong with a list file, gathered while it is read: of millions of mistakes a readable number is kept."""

from dataclasses import dataclass, field

from moderation.common.findings import Finding

MOST_ERRORS, MOST_WARNINGS = 50, 20
"""Reading stops after so many errors; of warnings the first ones are shown, and the others counted."""


class TooManyErrorsError(Exception):
    """Enough is known: the rest of the file is not read."""


@dataclass
class Problems:
    """Findings of one file."""

    file: str
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    unshown: int = 0
    """warnings beyond `MOST_WARNINGS`"""

    def error(self, line: int, column: int, message: str, hint: str = "", *, source: str = "", length: int = 1) -> None:
        """Note a mistake; lines and columns count from 1.

        Raises:
            TooManyErrorsError: it was the last that is noted.
        """
        self.errors.append(Finding(self.file, line, column, message, hint, "error", source[:2000], length))
        if len(self.errors) >= MOST_ERRORS:
            message = f"{MOST_ERRORS} errors up to this line: the rest of the file is not read"
            self.errors.append(Finding(self.file, line, 1, message, "fix these first"))
            raise TooManyErrorsError

    def warn(self, line: int, column: int, message: str, hint: str = "", *, source: str = "") -> None:
        """Note what is odd though valid."""
        if len(self.warnings) >= MOST_WARNINGS:
            self.unshown += 1
            return
        self.warnings.append(Finding(self.file, line, column, message, hint, "warning", source[:2000]))

"""What the terminal can show: any text, in any encoding."""

import codecs
import io
import sys

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_PLAIN = {
    "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "…": "...", "·": "|", "“": '"', "”": '"', "‘": "'", "’": "'",
    "×": "x", "≥": ">=", "≤": "<=", "✓": "yes", "↓": "v", "│": "|", "─": "-", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
"""Replacements for characters that the output's encoding lacks; others are escaped."""
_WIDEST = 5_000
_HANDLER = "clip-moderation-plain"


def show_any_text() -> None:
    """Let standard output and error accept any text: characters that their encoding lacks are replaced or escaped.

    A console of Windows, `PYTHONIOENCODING=latin-1`, a pipe in an old locale: no image's name may crash a command.
    """
    codecs.register_error(_HANDLER, _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def print_whole(table: Table) -> None:
    """Print a table so that no cell that may not wrap is cut: wider than the terminal, if need be.

    A wrapped URI cannot be copied.
    """
    console = Console(highlight=False)
    needed = Measurement.get(console, console.options.update(width=_WIDEST), table).maximum
    Console(highlight=False, width=max(console.width, min(needed, _WIDEST))).print(table)


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text), error.end

"""What the terminal can show: any text, in any encoding."""

import codecs
import io
import sys

_PLAIN = {
    "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "…": "...", "·": "|", "“": '"', "”": '"', "‘": "'", "’": "'",
    "×": "x", "≥": ">=", "≤": "<=", "✓": "yes", "↓": "v", "│": "|", "─": "-", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
"""What stands for a character that the output's encoding does not have; others are escaped."""
_HANDLER = "clip-moderation-plain"


def show_any_text() -> None:
    """Let standard output and error take every text: what their encoding lacks is written plainly, or escaped.

    A console of Windows, `PYTHONIOENCODING=latin-1`, a pipe in an old locale: no name of an image may end a command.
    """
    codecs.register_error(_HANDLER, _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text), error.end

"""What is wrong, or odd, in a policy file: a place, what was found there, and what to write instead."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One mistake or warning. Lines and columns are counted from 1."""

    file: str
    line: int
    column: int
    message: str
    """what was found and what was expected, lower case, no full stop"""
    hint: str = ""
    """what to write instead; empty where there is nothing to suggest"""
    level: Literal["error", "warning"] = "error"
    source: str = ""
    """the line as written in the file"""
    length: int = 1
    """characters to underline"""

    def __str__(self) -> str:
        """`file:line:col: message`, the line, a caret, the hint."""
        wording = f"{self.file}:{self.line}:{self.column}: {'warning: ' if self.level == 'warning' else ''}{self.message}"
        if self.source.strip():
            line, start = _window(_visible(self.source.rstrip()), self.column - 1)
            number = str(self.line)
            carets = "^" * max(1, min(self.length, len(line) - start))
            wording += f"\n  {number} | {line}\n  {' ' * len(number)} | {' ' * start}{carets}"
        if self.hint:
            wording += f"\n  {self.hint}"
        return wording


def as_json(findings: Iterable[Finding]) -> str:
    """For editors and CI: a list of objects."""
    return json.dumps([asdict(f) for f in findings], indent=1, ensure_ascii=False)


def as_github(findings: Iterable[Finding]) -> str:
    """GitHub workflow commands, which annotate the lines of a pull request."""
    lines = []
    for f in findings:
        place = f"file={_property(f.file)},line={f.line},col={f.column}"
        text = f.message + (f"\n{f.hint}" if f.hint else "")
        lines.append(f"::{f.level} {place},title=moderation policy::{_data(text)}")
    return "\n".join(lines)


def _window(line: str, start: int, width: int = 110) -> tuple[str, int]:
    """A long line cut down to what is around `start`."""
    if len(line) <= width:
        return line, min(start, len(line))
    left = max(0, min(start - width // 3, len(line) - width))
    cut = line[left : left + width]
    return ("…" + cut[1:] if left else cut), max(0, start - left)


def _visible(text: str) -> str:
    """Every character one column wide and harmless to a terminal."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

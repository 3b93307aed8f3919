"""Adding entries to a list file, in the file's own layout. What stands in it stays as it is."""

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.lists.entry_rows import Layout, layout_of
from moderation.lists.hash_list import HashKind
from moderation.lists.lines import text_lines
from moderation.lists.problems import Problems, TooManyErrorsError


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to add."""

    hash: str
    """lower-case hex digits"""
    label: str = ""
    quality: int | None = None
    """of a PDQ that was computed"""


class UnknownLayoutError(Exception):
    """Nothing can be added to a file: its text says why, and what to do."""


def new_layout(kind: HashKind) -> tuple[Layout, str]:
    """The layout of a list that begins, and its first line."""
    if kind is HashKind.PDQ:
        return Layout(",", 3, 0, None, 2, (1,), titled=True), "hash,label,quality\n"
    return Layout(",", 2, 0, None, None, (1,), titled=True), "hash,label\n"


def find_layout(path: Path) -> Layout | None:
    """The layout of a file; None if it has no entry and no header. Raises `UnknownLayoutError`, `OSError`."""
    with path.open("rb") as stream:
        head = stream.peek(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith((b"{", b"[")):
            raise UnknownLayoutError("it is JSON of an exchange, which the next fetch replaces: add to a CSV file of your own")
        problems = Problems(str(path))
        try:
            lines = (
                (n, line) for n, line in text_lines(stream, problems) if line.strip() and not line.lstrip().startswith("#")
            )
            first = next(lines, None)
            found = None if first is None else layout_of(*first, problems)
        except TooManyErrorsError:
            found = None
    if problems.errors:
        raise UnknownLayoutError(str(problems.errors[0]))
    return found


def as_line(entry: NewEntry, kind: HashKind, layout: Layout) -> str:
    """An entry as a line of a file. Raises `UnknownLayoutError` where the layout has no room for a label."""
    label = " ".join(entry.label.split())
    if not layout.delimiter:
        return f"{entry.hash}  {label}\n" if label else f"{entry.hash}\n"
    if label and not layout.labels:
        raise UnknownLayoutError("its header names no column for labels: add a column `label`, or leave out --label")
    fields = [""] * layout.columns
    fields[layout.hash] = entry.hash
    if layout.kind is not None:
        fields[layout.kind] = kind.value
    if layout.quality is not None and entry.quality is not None:
        fields[layout.quality] = str(entry.quality)
    if label:
        fields[layout.labels[0]] = label
    text = io.StringIO()
    csv.writer(text, delimiter=layout.delimiter, lineterminator="\n").writerow(fields)
    return text.getvalue()


def append(path: Path, lines: Sequence[str]) -> None:
    """Write lines at the end of a file, or of a new one: all of them, or nothing is changed. Raises `OSError`."""
    path = path.resolve()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            ended = True
            if path.exists():
                with path.open("rb") as source:
                    shutil.copyfileobj(source, out, 1 << 20)
                    if source.tell():
                        source.seek(-1, os.SEEK_END)
                        ended = source.read(1) == b"\n"
                shutil.copymode(path, partial)
            else:
                partial.chmod(0o644)
            out.write(("" if ended else "\n").encode() + "".join(lines).encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

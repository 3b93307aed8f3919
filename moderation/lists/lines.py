"""Lines of text from a stream of bytes, each of a bounded length; what is no text is reported where it stands."""

import io
from collections.abc import Iterator

from moderation.lists.problems import Problems

MAX_LINE = 1 << 16
"""Bytes of a line; a longer one is reported and skipped."""

_MAGIC = {
    b"\x1f\x8b": "compressed by gzip", b"PK\x03\x04": "a ZIP or Excel file", b"BZh": "compressed by bzip2",
    b"\x28\xb5\x2f\xfd": "compressed by zstd", b"PAR1": "a Parquet file", b"SQLite": "an SQLite database",
    b"%PDF": "a PDF file", b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image",
}  # fmt: skip


def is_text(stream: io.BufferedReader, problems: Problems) -> bool:
    """Look at the beginning of a file, without reading on; say what it is where it is no UTF-8 text."""
    head = stream.peek(1 << 12)[: 1 << 12]
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            problems.error(1, 1, f"the file is {what}, not text", "give the text file itself: unpacked, exported as CSV")
            return False
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.error(1, 1, "the file is UTF-16 text", "save it as UTF-8")
        return False
    if head[:400].count(0) > 4:
        problems.error(1, 1, "the file holds NUL bytes: it is binary, or UTF-16 text", "give a text file in UTF-8")
        return False
    return True


def text_lines(stream: io.BufferedReader, problems: Problems) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that can be read, without its end and without a byte order mark."""
    number = 0
    while piece := stream.readline(MAX_LINE + 1):
        number += 1
        if len(piece) > MAX_LINE:
            start = piece[:200].decode("utf-8", "replace")
            problems.error(
                number, 1, f"a line of more than {MAX_LINE:,} bytes", "put one entry on each line, ended by LF", source=start
            )
            while piece and not piece.endswith(b"\n"):
                piece = stream.readline(1 << 20)
            continue
        line = piece.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n") if number == 1 else piece.rstrip(b"\r\n")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            source = line.decode("utf-8", "replace")
            column = len(line[: error.start].decode("utf-8")) + 1
            message = f"the byte {line[error.start]:#04x} is no UTF-8 text"
            problems.error(number, column, message, "save the file as UTF-8", source=source)
            continue
        bad = next((mark for mark in ("\0", "\r") if mark in text), None)
        if bad is not None:
            message = "a NUL byte in the line" if bad == "\0" else "a carriage return inside the line"
            hint = "remove it" if bad == "\0" else "end lines with LF, or CR LF"
            problems.error(number, text.index(bad) + 1, message, hint, source=text)
            continue
        yield number, text

"""A list file, read and checked: hashes as arrays, and every mistake with its place."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.common.findings import Finding
from moderation.lists.entry_rows import Row, text_rows
from moderation.lists.exchange_json import json_rows
from moderation.lists.hash_list import TYPE_NAMES, HashKind, HashList, ordered_by_bytes
from moderation.lists.lines import is_text, text_lines
from moderation.lists.problems import Problems, TooManyErrorsError

MAX_ENTRIES = 20_000_000
MIN_QUALITY = 50
"""Below it a PDQ says little (the paper's threshold)."""
MAX_LABEL = 500
"""Characters of a label that are kept."""

_BLOCK = 1 << 15
_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[[*b"0123456789abcdefABCDEF"]] = [*range(16), *range(10, 16)]
_EMPTY_FILE = {
    HashKind.SHA256: bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    HashKind.MD5: bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e"),
}


@dataclass(frozen=True)
class ReadList:
    """What came of a file."""

    content: HashList | None
    """None where there are errors"""
    errors: list[Finding]
    warnings: list[Finding]
    unshown: int
    """warnings beyond those"""
    duplicates: int
    """entries left out because an earlier line has the same hash"""
    other_kinds: dict[str, int]
    """entries left out because they are of another kind, by the file's name of it"""
    withdrawn: dict[str, int]
    """entries left out because the exchange withdrew them, by why"""


@dataclass
class _Gathered:
    kind: HashKind
    min_quality: int
    problems: Problems
    hashes: list[NDArray[np.uint8]] = field(default_factory=list)
    labels: list[pa.Array] = field(default_factory=list)
    lines: list[NDArray[np.int64]] = field(default_factory=list)
    count: int = 0
    others: dict[str, int] = field(default_factory=dict)

    def add(self, rows: Iterable[Row]) -> None:
        """Check a block of rows and keep the good ones."""
        rows = [row for row in rows if self._of_kind(row)]
        wide = 2 * self.kind.size
        sized = [row for row in rows if len(row.hash) == wide]
        if len(sized) < len(rows):
            for row in rows:
                if len(row.hash) != wide:
                    self._wrong_length(row)
        text = "".join(row.hash for row in sized).encode("ascii", "replace")
        digits: NDArray[np.uint8] = _DIGITS[np.frombuffer(text, np.uint8)].reshape(-1, wide)
        good: NDArray[np.bool_] = np.all(digits < 16, axis=1)
        for bad in np.flatnonzero(~good):
            self._not_hex(sized[bad], int(np.argmax(digits[bad] > 15)))
        hashes: NDArray[np.uint8] = digits[:, ::2] << np.uint8(4) | digits[:, 1::2]
        self._meaningless(sized, hashes, good)
        for n, row in enumerate(sized):
            if row.quality and not self._quality_is_good(row):
                good[n] = False
        self.hashes.append(hashes[good])
        self.labels.append(
            pa.array([row.label[:MAX_LABEL] for row, kept in zip(sized, good, strict=True) if kept], pa.large_string())
        )
        self.lines.append(np.array([row.line for row in sized], np.int64)[good])
        self.count += int(good.sum())

    def _of_kind(self, row: Row) -> bool:
        if not row.kind:
            return True
        kind = TYPE_NAMES.get(row.kind.lower())
        if kind is self.kind:
            return True
        name = row.kind[:50]
        if kind is None and name not in self.others:
            self.problems.warn(
                row.line, row.column(row.kind), f"entries of type {name!r} are not matched",
                f"known are: {', '.join(HashKind)}", source=row.source,
            )  # fmt: skip
        if name in self.others or len(self.others) < 1000:
            self.others[name] = self.others.get(name, 0) + 1
        return False

    def _wrong_length(self, row: Row) -> None:
        wide, found = 2 * self.kind.size, len(row.hash)
        if found > 9 and row.hash.endswith("="):
            hint = "this is base64: write the hash as hex digits"
        elif row.hash[:2].lower() == "0x":
            hint = "leave out `0x`"
        elif found in (32, 64):
            hint = "this is as long as an MD5" if found == 32 else "this is as long as a SHA-256 or a PDQ"
            hint += ": is the list's `hash` right?"
        else:
            hint = "" if found else "write a hash, or remove the line"
        message = f"{self.kind.shown} hashes have {wide} hex digits; this has {found} characters" if found else "no hash"
        self.problems.error(row.line, row.column(row.hash), message, hint, source=row.source, length=max(1, found))

    def _not_hex(self, row: Row, place: int) -> None:
        message = f"{row.hash[place]!r} is no hex digit"
        self.problems.error(
            row.line, row.column(row.hash) + place, message, "hashes are written with 0-9 and a-f", source=row.source
        )

    def _meaningless(self, rows: list[Row], hashes: NDArray[np.uint8], good: NDArray[np.bool_]) -> None:
        alike = (hashes == hashes[:, :1]).all(axis=1) & np.isin(hashes[:, 0], (0, 255)) & good
        for n in np.flatnonzero(alike):
            good[n] = False
            what = "zeros" if hashes[n, 0] == 0 else "ones"
            message = f"a hash of {what} only: no picture has this {self.kind.shown}"
            hint = (
                "remove the entry: it would match pictures without content" if self.kind is HashKind.PDQ else "remove the entry"
            )
            self.problems.error(rows[n].line, rows[n].column(rows[n].hash), message, hint, source=rows[n].source)
        empty = _EMPTY_FILE.get(self.kind)
        if empty is not None:
            for n in np.flatnonzero((hashes == np.frombuffer(empty, np.uint8)).all(axis=1)):
                row = rows[n]
                self.problems.warn(row.line, row.column(row.hash), "this is the hash of an empty file", source=row.source)

    def _quality_is_good(self, row: Row) -> bool:
        if not row.quality.isascii() or not row.quality.isdecimal() or len(row.quality) > 3 or int(row.quality) > 100:
            message = f"a quality is a whole number from 0 to 100, not {row.quality[:40]!r}"
            self.problems.error(row.line, row.source.rfind(row.quality) + 1 or 1, message, source=row.source)
            return False
        if self.kind is HashKind.PDQ and int(row.quality) < self.min_quality:
            message = f"a quality of {row.quality} is under {self.min_quality}: the hash would match unlike pictures"
            hint = "remove the entry, or lower the list's `min_quality`"
            self.problems.error(row.line, row.source.rfind(row.quality) + 1 or 1, message, hint, source=row.source)
            return False
        return True


def read_list(stream: io.BufferedReader, name: str, kind: HashKind, min_quality: int = MIN_QUALITY) -> ReadList:
    """Read a list file; `docs/lists.md` describes the formats. Never raises for what the file holds.

    Args:
        stream: the file, as `open(path, "rb")` gives it; read once, in pieces.
        name: the file as findings call it.
        kind: which entries are wanted, where the file says of each what it is; what all are, where it does not.
        min_quality: 0 to 100: a PDQ with a stated quality below it is an error.
    """
    problems = Problems(name)
    gathered = _Gathered(kind, min_quality, problems)
    withdrawn: dict[str, int] = {}
    content, duplicates = None, 0
    try:
        if is_text(stream, problems):
            rows = _rows(stream, problems, withdrawn)
            while block := list(islice(rows, _BLOCK)):
                gathered.add(block)
                if gathered.count > MAX_ENTRIES:
                    problems.error(block[-1].line, 1, f"more than {MAX_ENTRIES:,} entries", "divide the list into several")
                    break
        if not gathered.count and not problems.errors:
            _no_entries(gathered, withdrawn)
        if not problems.errors:
            content, duplicates = _content(gathered)
    except TooManyErrorsError:
        pass
    errors = sorted(problems.errors, key=lambda error: error.line)
    return ReadList(
        content, errors, problems.warnings, problems.unshown, duplicates, gathered.others, withdrawn
    )  # fmt: skip


def _rows(stream: io.BufferedReader, problems: Problems, withdrawn: dict[str, int]) -> Iterator[Row]:
    head = stream.peek(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"{", b"[")):
        return json_rows(stream, problems, withdrawn)
    return text_rows(text_lines(stream, problems), problems)


def _no_entries(gathered: _Gathered, withdrawn: dict[str, int]) -> None:
    message = f"the file has no {gathered.kind.shown} entry"
    if gathered.others:
        message += f"; it has: {', '.join(list(gathered.others)[:10])}"
    elif withdrawn:
        message += " that was not withdrawn"
    gathered.problems.error(1, 1, message, "write a hash on each line, or correct the list's `hash`")


def _content(gathered: _Gathered) -> tuple[HashList, int]:
    hashes, lines = np.concatenate(gathered.hashes), np.concatenate(gathered.lines)
    labels = pa.concat_arrays(gathered.labels)
    order = ordered_by_bytes(hashes)
    hashes = hashes[order]
    again = np.zeros(len(hashes), np.bool_)
    again[1:] = (hashes[1:] == hashes[:-1]).all(axis=1)
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(hashes))))
    repeated = np.flatnonzero(again)
    for n in repeated[np.argsort(lines[order[repeated]])]:
        line, earlier = int(lines[order[n]]), int(lines[order[first[n]]])
        gathered.problems.warn(
            line, 1, f"the same hash as in line {earlier}", "remove one of them: the first one's label is kept"
        )
    if gathered.kind is HashKind.PDQ:
        _balanced(hashes, gathered.problems)
    kept = order[~again]
    return HashList(gathered.kind, hashes[~again], labels.take(pa.array(kept))), len(repeated)


def _balanced(hashes: NDArray[np.uint8], problems: Problems) -> None:
    """Half of the bits of a PDQ are set, by the way it is made; of another hash's digits hardly ever exactly so many."""
    ones = np.bitwise_count(hashes).sum(axis=1, dtype=np.int64)
    if len(hashes) >= 20 and ((ones >= 126) & (ones <= 128)).mean() < 0.5:
        message = "most entries do not have half of their bits set, as PDQ hashes have"
        problems.warn(1, 1, message, "are these SHA-256 hashes? then write `hash: sha256`")

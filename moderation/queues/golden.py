"""Images whose answer is known, which are mixed into a queue to measure reviewers: a file of labels, or a folder of images."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from moderation.errors import SettingsError
from moderation.labels.label_file import ANY, read_labels

FINE = "fine"
"""The folder of images that no rule applies to."""
_MOST = 10_000
_SHOWN = 3
_ANSWERS = pa.schema([("image", pa.string()), ("rule", pa.string()), ("violates", pa.bool_())])


@dataclass(frozen=True, slots=True)
class GoldenAnswer:
    """What is known of an image."""

    uri: str
    sha256: str | None
    """of its bytes; None where a file of labels names an image of the results"""
    rule: str | None
    """None: the whole image"""
    violates: bool


@dataclass(frozen=True, slots=True)
class Golden:
    """The known answers of a queue, and what cannot be used of them."""

    answers: tuple[GoldenAnswer, ...] = ()
    mistakes: tuple[str, ...] = ()


def read_golden(path: Path) -> Golden:
    """The answers in a CSV file of labels, or in a folder: `golden/fine/*` violate nothing, `golden/RULE/*` violate that rule.

    Never raises: `mistakes` says what is wrong.
    """
    try:
        return _folder(path) if path.is_dir() else _file(path)
    except OSError as error:
        return Golden(mistakes=(f"cannot read {str(path)!r}: {(error.strerror or str(error)).lower()}",))


def answers_table(answers: tuple[GoldenAnswer, ...]) -> pa.Table:
    """`image` (SHA-256), `rule` and `violates` of those answers whose image is known."""
    rows = [{"image": one.sha256, "rule": one.rule, "violates": one.violates} for one in answers if one.sha256]
    return pa.Table.from_pylist(rows, schema=_ANSWERS)


def _file(path: Path) -> Golden:
    try:
        read = read_labels(path)
    except SettingsError as error:
        return Golden(mistakes=(str(error),))
    answers = tuple(
        GoldenAnswer(label.uri, None, None if label.rule == ANY else label.rule, label.truth)
        for label in read.labels
        if label.truth is not None
    )
    lost = [f"{read.place(remark.lines)}: {remark.message}" for remark in read.remarks if remark.outcome == "left out"]
    empty = [label.line for label in read.labels if label.truth is None]
    if empty:
        lost.append(f"{read.place(empty)}: without an answer: write true or false")
    if not answers and not lost:
        lost.append(f"{str(path)!r} has no answer: add lines below the first one")
    return Golden(answers, tuple(lost))


def _folder(path: Path) -> Golden:
    answers: dict[tuple[str, str | None], GoldenAnswer] = {}
    mistakes = []
    for file in _files(path):
        parts = file.relative_to(path).parts
        if len(parts) < 2:
            mistakes.append(f"{str(file)!r}: move it into a folder named like the rule that it violates, or `{FINE}`")
            continue
        if len(answers) == _MOST:
            mistakes.append(f"{str(path)!r} has more than {_MOST:,} images: keep fewer")
            break
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        rule = None if parts[0] == FINE else parts[0]
        answers[sha256, rule] = GoldenAnswer(file.resolve().as_uri(), sha256, rule, rule is not None)
    if len(mistakes) > _SHOWN:
        mistakes = [*mistakes[:_SHOWN], f"{str(path)!r}: and {len(mistakes) - _SHOWN:,} more such files"]
    both = {sha256 for sha256, rule in answers if rule is None} & {sha256 for sha256, rule in answers if rule is not None}
    mistakes += [f"{answers[one, None].uri}: the same image is in `{FINE}` and in a rule's folder: remove one" for one in both]
    if not answers and not mistakes:
        mistakes.append(f"{str(path)!r} has no image: put some into folders named like rules, or `{FINE}`")
    return Golden(tuple(answers.values()), tuple(mistakes))


def _files(path: Path) -> Iterator[Path]:
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            yield file

"""The program's own texts are plain English: none of the idioms that native readers stumble over."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BANNED = (
    "take[ns]? up|taking up|took up",  # process
    "anew",  # again, or re-decide
    "told",  # reported
    "to be had",  # available
    "go(?:es|ing)? on with|gone on with|went on with",  # resume
    "broken[ -]off",  # abandoned
    "decide[ds]? otherwise",  # a different decision
    "mended?",  # fix, fixed
    "held back",  # quarantined
    "a taste",  # a trial run
    "by written half",  # partially written
)
FORMER_NAME = "clip-moderation: go on with crashed runs"
"""An automation's name in earlier versions, which `moderate deploy` looks for to rename it."""
TEMPLATES = sorted((ROOT / "moderation").rglob("*.j2"))
CODE = sorted(file for folder in ("moderation", "flows") for file in (ROOT / folder).rglob("*.py"))


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Every string of a Python file that is a text, not a name: messages, options' help, docstrings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value


ANY = re.compile(rf"\b(?:{'|'.join(BANNED)})\b", re.IGNORECASE)


def banned(text: str) -> list[str]:
    """What a text should not say."""
    spaced = re.sub(r"\s+", " ", text).replace(FORMER_NAME, "")
    return [match[0] for match in ANY.finditer(spaced)]


def test_messages_help_and_docstrings_are_plain_english() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {what}"
        for file in CODE
        for line, text in texts(file.read_text(encoding="utf-8"))
        for what in banned(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda file: file.stem)
def test_pages_are_plain_english(template: Path) -> None:
    assert not banned(template.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "only new images are taken up",
        "nothing was published: once it is\nmended, go on with it",
        "4 images are decided otherwise",
        "The run was held back",
    ],
)
def test_an_idiom_is_noticed_across_lines(text: str) -> None:
    assert banned(text)

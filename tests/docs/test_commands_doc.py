"""The documentation and the command line agree, both ways: what a page names exists, and what exists is named on a page."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from places import ROOT

from moderation.cli import app

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docker" / "README.md"]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}


def commands() -> dict[str, set[str]]:
    """Every command, such as `policy check`, with its options: one spelling of each, the first long one."""

    def walk(command: object, name: tuple[str, ...]) -> Iterator[tuple[str, object]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(name), command
        for word, sub in (inner or {}).items():
            yield from walk(sub, (*name, word))

    found = {}
    for name, command in walk(typer.main.get_command(app), ()):
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        found[name] = {tuple(word for word in (*o.opts, *o.secondary_opts) if word.startswith("--")) for o in options}
    return found


COMMANDS = commands()
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def code_in(text: str) -> list[str]:
    """The code of a page, line by line: fenced blocks, and what stands between backticks in a sentence."""
    fenced = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    return lines + [
        " ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    ]


def mentions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command that a page names, with the options given to it there."""
    for line in code_in(text):
        for said in re.split(r"(?<![\w./:-])moderate (?=[a-z-])", line)[1:]:
            words = re.split(r" [|#]", said)[0].split()
            length = 2 if words[0] in GROUPS and len(words) > 1 and words[1].isalpha() and words[1].islower() else 1
            yield " ".join(words[:length]), [word for word in words if re.fullmatch(r"--[a-z-]+", word)]


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.name if page.parent == ROOT else f"{page.parent.name}/{page.name}"
)
def test_commands_and_options_on_a_page_exist(page: Path) -> None:
    for command, options in mentions(TEXT[page]):
        assert command in COMMANDS or command in GROUPS, f"moderate {command}"
        known = {spelling for option in COMMANDS.get(command, ()) for spelling in option} | {"--help"}
        assert set(options) <= known, f"moderate {command}"


def test_pages_name_commands_at_all() -> None:
    assert len({command for page in PAGES for command, _ in mentions(TEXT[page])}) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_and_its_options_are_on_a_page(command: str) -> None:
    named = [text for text in TEXT.values() if command in {name for name, _ in mentions(text)} or f"moderate {command}" in text]
    assert named, f"no page names `moderate {command}`"
    spoken_of = set(re.findall(r"(?<![\w-])--[a-z-]+", "\n".join(TEXT.values())))
    assert [option for option in COMMANDS[command] if not spoken_of & set(option)] == []

"""What people read is plain English: none of the idioms that native readers stumble over."""

import re
from pathlib import Path

import pytest
from places import ROOT

FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "NOTICE", "prefect.yaml", "Makefile")),
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "data-dictionary.md"),  # generated from the schemas
    *sorted((ROOT / "docs" / "ci").glob("*.yml")),
    *sorted((ROOT / "policies").glob("*.yaml")),
    *sorted((ROOT / "docker").rglob("*.md")),
    *sorted((ROOT / "docker").rglob("*.y*ml")),
    ROOT / "moderation" / "demo" / "model" / "MODEL_CARD.md",
]
BETTER = {
    r"(?:take|takes|taken|took|taking) up": "process",
    r"anew": "again, or re-decide",
    r"told": "reported, notified, distinguished",
    r"(?:is|are|was|were|to be|can be|could be) had": "available",
    r"(?:go|goes|going|gone|went) on (?:with|behind)": "resume, or continue",
    r"(?:broken|broke|break|breaks) off": "abandoned, or interrupted",
    r"decided otherwise": "a different decision",
    r"mend(?:s|ed)?": "fix",
    r"held back": "quarantined",
    r"a taste": "a trial run",
    r"(?:by written half|written by half)": "partially written",
    r"for good": "permanently, or in production",
    r"set aside": "quarantined, or ignored",
    r"what (?:becomes|became) of": "what happens to",
}
BANNED = re.compile("|".join(rf"\b(?:{idiom})\b" for idiom in BETTER), re.IGNORECASE)


def prose(text: str) -> str:
    """A page without code, nor fenced blocks that name no language (output). Line breaks become spaces."""
    text = re.sub(r"`[^`\n]+`", "`code`", re.sub(r"^```\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    return re.sub(r"\s+(?:# )?", " ", text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_idiom_that_has_to_be_read_twice(file: Path) -> None:
    text = prose(file.read_text(encoding="utf-8"))
    found = [text[max(0, match.start() - 40) : match.end() + 40] for match in BANNED.finditer(text)]
    assert found == [], "say it as BETTER in this file does"


@pytest.mark.parametrize(
    "sentence",
    [
        "Only new images are taken\nup.",
        "It is decided anew.",
        "  # once it is mended,\n  # go on\n  # with it",
        "Held back: flood",
    ],
)
def test_the_idioms_are_seen_across_lines(sentence: str) -> None:
    assert BANNED.search(prose(sentence))

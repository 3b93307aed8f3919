"""The text of docs/operations.md."""

import re

from places import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


def section(title: str) -> str:
    """The text below a heading, up to the next one of its level."""
    return re.split(r"^## ", PAGE.split(f"\n## {title}", 1)[1], flags=re.MULTILINE)[0]

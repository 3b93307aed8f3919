"""Entity tags (RFC 9110, 8.8.3): what stores write, how it is kept, and when two of them mean one version. Pure.

Kept is the text without its quotes, `9a0364b9`, as manifests and inventories write it; a weak one as `W/"9a0364b9"`. Stores
that give no tag at all get one that is made of time and size, `M/"6920a5b0-bc55"`, so that a new version is another one.
"""

import re
from datetime import datetime

_WEAK = re.compile(r'[Ww]/"?([^"]*)"?')
_FIT_FOR_HEADER = re.compile(r'"?[\x21\x23-\x7e]{1,1024}"?')
_MADE = re.compile(r'M/"([0-9a-f]+)-([0-9a-f]+)"')


def entity_tag(text: str | None) -> str:
    """What a header or a listing says, as it is kept; "" where there is none."""
    text = (text or "").strip()
    if not text.startswith(("W/", "w/", "M/")):
        return text.strip('"')
    if _MADE.fullmatch(text):
        return text
    weak = _WEAK.fullmatch(text)
    if weak:
        return f'W/"{weak[1]}"' if weak[1] else ""
    return text.strip('"')


def made_tag(size: int, modified: datetime) -> str:
    """A tag for an object of which the store gives none, from its size in bytes and its time, to the second."""
    return f'M/"{int(modified.timestamp()):x}-{size:x}"'


def is_made(tag: str) -> bool:
    """Whether the tag was made here."""
    return _MADE.fullmatch(tag) is not None


def condition(tag: str | None) -> str | None:
    """What `If-Match` can say, which compares strongly: None for weak tags, made ones, none, and what no header can hold."""
    return f'"{tag}"' if tag and _FIT_FOR_HEADER.fullmatch(tag) and not is_made(tag) and not _WEAK.fullmatch(tag) else None


def is_same(tag: str, other: str) -> bool:
    """Weak comparison: whether both mean one version."""
    return _opaque(tag) == _opaque(other)


def _opaque(tag: str) -> str:
    weak = _WEAK.fullmatch(tag)
    return weak[1] if weak else tag

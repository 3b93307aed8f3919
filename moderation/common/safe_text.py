"""Hostile text made visible: names of objects, above all. Pure."""

import re
import unicodedata

# What emoji, Arabic, Hebrew and Indic text needs, and what cannot turn the reading direction of anything around it.
_HARMLESS_FORMATS = frozenset("\u200c\u200d\u200e\u200f\u061c")
_LONG_WORD = re.compile(r"[^\s'\"]{201,}")
_TAGS = range(0xE0020, 0xE0080)  # of flag emoji


def visible(text: str) -> str:
    """`text` with nothing hidden.

    Control characters become their pictures (a newline is ␊), direction overrides and other invisible characters
    ‹U+202E› and the like.
    """
    return text if text.isascii() and text.isprintable() else "".join(_visible(c) for c in text)


def shortened(text: str, most: int = 200) -> str:
    """`text`, of a long one the start and the end, and how long it is."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\u2026{text[-most // 4 :]} ({len(text.encode('utf-8', 'surrogateescape')):,} bytes)"


def shortened_words(text: str) -> str:
    """`text` with each word in it shortened: a path of thousands of characters hides what is said about it."""
    return _LONG_WORD.sub(lambda found: shortened(found[0]), text)


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    category = unicodedata.category(character)
    if category == "Cf" and (character in _HARMLESS_FORMATS or code in _TAGS):
        return character
    return f"\u2039U+{code:04X}\u203a" if category in ("Cc", "Cf", "Cs", "Zl", "Zp") else character

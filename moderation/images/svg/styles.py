"""Style sheets, as far as they are drawn as browsers draw them: simple selectors, and properties of SVG."""

import re

from moderation.images.svg.properties import DASHED_WITHOUT_EFFECT, OUTSIZED, PROPERTIES, WITHOUT_EFFECT, references, refuses

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_IDENTIFIER = r"-?[A-Za-z_][\w-]*"
_SIMPLE = rf"(?:\*|{_IDENTIFIER})?(?:[.#]{_IDENTIFIER})*"
_SELECTOR = re.compile(rf"\s*{_SIMPLE}(?:(?:\s+|\s*>\s*){_SIMPLE})*\s*")
_RULE = re.compile(r"([^{}]*)\{([^{}]*)\}")
_IMPORTANT = re.compile(r"\s*!\s*important\s*$")


class RefusedStyleError(ValueError):
    """A style that is not drawn as browsers draw it: its name."""


def checked_sheet(text: str) -> tuple[str, list[tuple[str, str]]]:
    """A style sheet without what has no effect, and the ids that it refers to, each with the property's name.

    Raises:
        RefusedStyleError: it is more than what is drawn.
    """
    text = _COMMENT.sub(" ", text).replace("<!--", " ").replace("-->", " ")
    if "@" in text:
        raise RefusedStyleError(f"the rule {text[text.index('@') :].split()[0][:40]}")
    if "\\" in text or "/*" in text or "<" in text:
        raise RefusedStyleError("a style sheet with escapes or open comments")
    rules, found, at = [], [], 0
    for rule in _RULE.finditer(text):
        if text[at : rule.start()].strip():
            raise RefusedStyleError("a broken style sheet")
        at = rule.end()
        selectors, body = rule.groups()
        for selector in selectors.split(","):
            if not selector.strip() or _SELECTOR.fullmatch(selector) is None:
                raise RefusedStyleError(f"the selector {' '.join(selector.split())[:40]!r}")
        kept, ids = checked_style(body)
        rules.append(f"{selectors.strip()} {{{kept}}}")
        found += ids
    if text[at:].strip():
        raise RefusedStyleError("a broken style sheet")
    return "\n".join(rules), found


def checked_style(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Declarations without those that have no effect, and what they refer to. Raises RefusedStyleError."""
    kept, found = [], []
    for declaration in _COMMENT.sub(" ", text).split(";"):
        name, colon, value = declaration.partition(":")
        name, value = name.strip(), value.strip()
        if not name and not colon:
            continue
        lower = name.lower()
        if lower in WITHOUT_EFFECT or lower.startswith(DASHED_WITHOUT_EFFECT):
            continue
        if lower not in PROPERTIES:
            raise RefusedStyleError(f"the style {name[:40]!r}")
        plain = _IMPORTANT.sub("", value)
        if refuses(lower, plain) or OUTSIZED.search(plain):
            raise RefusedStyleError(f"the style {name[:40]}: {plain[:40]}")
        kept.append(f"{lower}:{value}")
        found += references(lower, plain)
    return ";".join(kept), found

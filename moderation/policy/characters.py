"""Characters that word processors, phones and chats write in place of YAML's own. Pure.

A no-break space looks like a space, `：` like a colon, `–` like a dash, and none of them is one. The text is repaired so that
the rest of the file can be checked, and every repair is an error with its place.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""Spaces that YAML does not take for one."""
INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
"""Characters of no width."""
OPENING = "“”„‟«»‹›‘’‚‛「『〝〞＂＇❝❛`´"
CLOSING = "”“‟«»›‹’‘‛」』〞〟＂＇❞❜`´"
DASHES = "–—−‐‑‒―－﹣⁃•‣●▪◦・·○■✓➤►*"
"""What stands at the start of a line in the place of `-`."""
COLONS = "：﹕∶︰"
_BRACKETS = str.maketrans("［］【】｛｝，、；", "[][]{},,,")
_BRACKET = "［【｛"

_KEY = re.compile(rf"^(?P<before>[ ]*(?:-[ ]+)*)(?P<key>[A-Za-z_]\w*)[ ]*(?P<colon>[{COLONS}])[ ]*")
_BLOCK = re.compile(r"(?:^|[:\-]\s+)[|>][0-9+-]*\s*(?:#.*)?$")
_FREE_TEXT = re.compile(r"^\s*(?:-\s+)?(?:description|owner)\s*:")
_ITEM = re.compile(rf"^(?P<indent>[ ]*)(?P<dash>[{re.escape(DASHES)}])(?P<rest>[ ]+\S.*)$")


@dataclass
class Repaired:
    """A text in which look-alikes are replaced, and what was replaced."""

    text: str
    problems: list[tuple[int, int, str, str]] = field(default_factory=list)
    """line and column from 0, message, hint"""
    doubts: list[tuple[int, int, str, str]] = field(default_factory=list)
    """the same, of what changes nothing but cannot be seen"""
    columns: dict[int, list[int]] = field(default_factory=dict)
    """of lines that changed: the column in the file of every character, and of the end"""

    def column(self, line: int, column: int) -> int:
        """Where a column of the repaired text stands in the file."""
        at = self.columns.get(line)
        return column if at is None else at[min(column, len(at) - 1)]


def repair(text: str) -> Repaired:
    """Replace look-alikes where YAML needs its own characters; text in quotes, comments and blocks of text stays."""
    repaired = Repaired(text)
    lines = text.splitlines(keepends=True)
    block: int | None = None  # the indentation of the line that opened a block of text
    quoted = -1  # the last line of a text in quotes that is longer than a line
    for number, line in enumerate(lines):
        body = line.rstrip("\r\n")
        indent = len(body) - len(body.lstrip(f" {SPACES}"))
        if block is not None and (not body.strip() or indent > block):
            continue
        if number <= quoted:
            continue
        block = indent if _BLOCK.search(body) else None
        quoted = _last_quoted(lines, number)
        if "\t" in body:
            body = _without_tabs(body)
            lines[number] = body + line[len(line.rstrip("\r\n")) :]
        if body.isascii() and "*" not in body:
            continue
        before = lines[number - 1].rstrip() if number else ""
        lines[number] = _line(repaired, number, body, before) + line[len(body) :]
    repaired.text = "".join(lines)
    return repaired


def _line(repaired: Repaired, number: int, body: str, before: str) -> str:
    chars, columns = _spaces(repaired, number, body)
    text = "".join(chars)
    if item := _ITEM.match(text):
        dash, rest = item["dash"], item["rest"].strip()
        begins_rule = re.match(r"(id|image)\s*:", rest)
        dashes = re.match(r"[ ]*(?=-[ ])", before)
        in_list = before.endswith(":") or (dashes is not None and len(dashes[0]) >= len(item["indent"]))
        if begins_rule or in_list:
            at = len(item["indent"])
            what = f"`{dash}` ({_name(dash)}) is used where a list needs a hyphen"
            repaired.problems.append((number, columns[at], what, f"write `- {rest[:60]}`"))
            text = f"{text[:at]}-{text[at + 1 :]}"
    if key := _KEY.match(text):
        at = key.start("colon")
        what = f"`{key['colon']}` ({_name(key['colon'])}) is used where YAML needs a plain colon"
        repaired.problems.append((number, columns[at], what, f"write `{key['key']}: {text[key.end() :].strip()[:60]}`"))
        columns = [*columns[: at + 1], columns[at], *columns[key.end() :]]
        text = f"{text[:at]}: {text[key.end() :]}"
    value = re.match(rf"^[ ]*(?:-[ ]+)*(?:[A-Za-z_]\w*:[ ]+)?(?=[{_BRACKET}])", text)
    if value:
        what = f"`{text[value.end()]}` ({_name(text[value.end()])}) is used where YAML needs a plain bracket"
        repaired.problems.append((number, columns[value.end()], what, 'write ["one thing", "another thing"]'))
        text = text[: value.end()] + text[value.end() :].translate(_BRACKETS)
    if text != body:
        repaired.columns[number] = columns
    return text


def _spaces(repaired: Repaired, number: int, body: str) -> tuple[list[str], list[int]]:
    """The line without invisible characters, and with plain spaces in the place of others."""
    chars: list[str] = []
    columns: list[int] = []
    quoted, reported = "", False
    free = bool(_FREE_TEXT.match(body))
    end = len(body.rstrip(f" \t{SPACES}{INVISIBLE}"))  # behind the last letter they do nothing
    for at, char in enumerate(body):
        if char == "#" and not quoted and (not chars or chars[-1] in " \t"):
            end = at  # a comment
        if char in "\"'" and at < end:
            quoted = _quoted(quoted, char, "".join(chars))
        if at >= end or not _is_strange(body, at):
            if at < end or char not in SPACES + INVISIBLE or end < len(body.rstrip(f" \t{SPACES}{INVISIBLE}")):
                chars.append(char)
                columns.append(at)
            continue
        structural = not quoted and _is_structural("".join(chars), body[at + 1 :])
        where = _where("".join(chars)) if structural else "in the text"
        what = f"there is {_article(_name(char))} (U+{ord(char):04X}) {where}, which looks like {_looks(char)}"
        if structural or (char in INVISIBLE and not free):
            fix = "replace it with a plain space" if char in SPACES else "remove it"
            if not reported:
                repaired.problems.append(
                    (number, at, what, f"{fix}: delete the characters around the caret and type them again")
                )
            reported = True
        elif not free:
            repaired.doubts.append((number, at, what, "replace it with a plain space"))
        if char in SPACES:
            chars.append(" " if structural else char)
            columns.append(at)
    return chars, [*columns, len(body)]


def _without_tabs(body: str) -> str:
    """The line without tabs behind the text and in front of a comment: YAML allows them, its parser does not."""
    if not set("\"'").intersection(body):
        body = re.sub(r"(?<=[^ \t])[ \t]+(?=#)", lambda gap: " " * len(gap[0]), body)
    return body.rstrip() if "\t" in body[len(body.rstrip()) :] else body


def _last_quoted(lines: list[str], number: int) -> int:
    """The line on which a text in quotes ends that begins on a line and is longer than it; -1 where there is none."""
    body = lines[number].rstrip("\r\n")
    quoted, start = "", 0
    for at, char in enumerate(body):
        if char == "#" and not quoted and body[at - 1 : at] in ("", " ", "\t"):
            break
        if char in "\"'":
            before = body[:at]
            in_flow = not before.rstrip().endswith(",") or "[" in before or "{" in before
            now = _quoted(quoted, char, before) if quoted or in_flow else ""
            start = at + 1 if now and not quoted else start
            quoted = now
    if not quoted:
        return -1
    rest = body[start:] + "\n" + "".join(lines[number + 1 :])
    end = re.match(r'(?:[^"\\]|\\.)*"' if quoted == '"' else r"(?:[^']|'')*'(?!')", rest, re.DOTALL)
    if end is None or not re.match(r"[ \t]*(?:[,\]}:#]|\r?$)", rest[end.end() :], re.MULTILINE):
        return -1
    return number + end[0].count("\n")


def _quoted(quoted: str, char: str, before: str) -> str:
    """The quote that a place lies in, behind the quote `char`; empty outside."""
    if quoted:
        return "" if char == quoted else quoted
    return char if before.rstrip()[-1:] in ("", *":-[,{") else ""


def _is_strange(body: str, at: int) -> bool:
    """Whether a character is a space that is none or cannot be seen, and does no work where it stands."""
    char, around = body[at], body[max(at - 1, 0) : at] + body[at + 1 : at + 2]
    if char in "\u200c\u200d\u3000":  # emoji and Persian need the joiners; between Japanese words it is a space as any other
        return around.isascii()
    return char in SPACES or char in INVISIBLE


def _is_structural(before: str, after: str) -> bool:
    """Whether a space between the two is YAML's and not part of a text."""
    ahead, behind = before.rstrip(" " + SPACES), after.lstrip(" " + SPACES + INVISIBLE)
    return not ahead.strip() or ahead[-1] in ":-[{," or behind[:1] in ("#", ",", "]", "}", "") or behind[:1] in (":", *COLONS)


def _where(before: str) -> str:
    return "in the indentation" if not before.strip() else "in this line"


def _looks(char: str) -> str:
    return "a space but is not one" if char in SPACES else "nothing"


def _name(char: str) -> str:
    return unicodedata.name(char, f"U+{ord(char):04X}").lower()


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def in_typographic_quotes(text: str) -> str | None:
    """The text without the typographic quotes around it; None where they do not wrap it.

    Apostrophes are fine (`a butcher’s knife`), and so are quotes around a part (`a sign that says “no”`).
    """
    first, last, inner = text[:1], text[-1:], text[1:-1].strip()
    marks = set(OPENING) | set(CLOSING)
    within = marks & set(inner) - set("’‘´`")
    if first in OPENING and len(text) > 1 and (last in CLOSING or last in "\"'") and not within:
        return inner
    if first in "\"'" and last in CLOSING and len(text) > 1 and not within:
        return inner
    if first in set(OPENING) - set("’‘´`") and not within and last not in CLOSING:
        return text[1:].strip()
    if last in set(CLOSING) - set("’‘´`") and not within and first not in OPENING:
        return text[:-1].strip()
    return None


def marks_that_join(text: str) -> Iterator[str]:
    """Marks in a prompt that look as if they separated two of them."""
    for mark in ("，", "、", "；", ";", "\t", "|", "•"):
        if mark in text.strip():
            yield mark

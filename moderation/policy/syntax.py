"""Why a file is not YAML, in the words of somebody who writes one, and where the mistake was made. Pure.

A parser notices a mistake where it can read no further, which is often lines below the place where it was made.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ruamel.yaml.error import MarkedYAMLError


class Trouble(NamedTuple):
    """What is wrong with the syntax. Line and column count from 0."""

    line: int
    column: int
    message: str
    hint: str


_KEY = re.compile(r"^(?P<indent>\s*(?:-\s+)*)(?P<key>[\"'“”]?[A-Za-z_][\w-]*[\"'“”]?)\s*(?P<sign>[:=])(?P<rest>.*)$")
_VALUE = re.compile(r"(?:^\s*(?:-\s+)+|[:\[,{]\s+|[\[{,])(?P<quote>[\"'])")
_CONFLICT = re.compile(r"^(<<<<<<<|=======|>>>>>>>)(\s|$)")
_FENCE = re.compile(r"^\s*(```|~~~)")
_POLICY_KEYS = (
    "policy",
    "version",
    "owner",
    "description",
    "model",
    "templates",
    "contrast",
    "unreadable",
    "unsupported",
    "near",
    "rules",
)
_RULE_KEYS = ("id", "category", "severity", "mode", "prompts", "score", "review", "block", "review_by", "maps_to")
"""Keys that tell where a line belongs that has come out of its place."""
_GENERAL = "is the line indented like its neighbours, and are quotes and brackets closed?"


def explain(text: str, error: MarkedYAMLError) -> Trouble:
    """The place and the reason of a parser's error, as near to the mistake as can be said."""
    lines = text.splitlines()
    problem = " ".join(str(error.problem or error.context).split())
    mark = error.problem_mark or error.context_mark
    at, column = (mark.line, mark.column) if mark else (0, 0)
    begun = (error.context_mark.line, error.context_mark.column) if error.context_mark else (at, column)
    context = str(error.context or "")
    line = lines[at] if at < len(lines) else ""
    for found in (
        *_pasted(lines, at),
        *_second_document(lines, problem, at),
        *_tabs(lines, problem, at, column),
        *_open_quote(lines, at, begun, context, problem),
        *_quotes(lines, at, column, problem),
        *_escape(at, column, problem),
        *_colon(lines, at, column, problem),
        *_flow(lines, at, begun, context, problem),
        *_no_colon(lines, begun, problem),
        *_special(line, at, column, problem),
        *_indentation(lines, at, column, begun, context, problem),
    ):
        return found
    if problem in ("", "None"):
        problem = "the parser cannot read it"
    return Trouble(at, column, f"not valid YAML: {problem}", _GENERAL)


def _pasted(lines: Sequence[str], at: int) -> Iterator[Trouble]:
    for number, line in enumerate(lines[: at + 2]):
        if _CONFLICT.match(line):
            yield Trouble(number, 0, "an unresolved merge conflict", "keep one of the two versions, and remove the markers")
        if _FENCE.match(line):
            what = "this line was copied from a chat or page and is not part of the policy"
            yield Trouble(number, 0, what, "remove it, and the matching line at the end")
        if line.startswith("> ") and number == 0:
            yield Trouble(number, 0, "the lines begin with `>`, as in a quoted e-mail", "remove `> ` from every line")
        if line.startswith("{\\rtf"):
            yield Trouble(number, 0, "a document of a word processor, not a text", "save it as plain text (UTF-8)")


def _second_document(lines: Sequence[str], problem: str, at: int) -> Iterator[Trouble]:
    if "found another document" in problem:
        what = "a second document starts here: a file has one policy"
        mark = "---" if lines[at].startswith("---") else "..."
        yield Trouble(at, 0, what, f"remove the line `{mark}`, or move what follows to its own file")


def _tabs(lines: Sequence[str], problem: str, at: int, column: int) -> Iterator[Trouble]:
    if "\\t" not in problem and "\t" not in problem:
        return
    line = lines[at] if at < len(lines) else ""
    if line[:column].strip():
        yield Trouble(at, column, "there is a tab after the colon", "replace it with a space")
    else:
        yield Trouble(at, column, "there is a tab in the indentation", "indent with spaces, not tabs")


def _open_quote(lines: Sequence[str], at: int, begun: tuple[int, int], context: str, problem: str) -> Iterator[Trouble]:
    ended = "end of stream" in problem and "quoted scalar" in context
    for number, line in enumerate(lines[: at + 1]):
        for match in _VALUE.finditer(line):
            start = match.start("quote")
            if _in_quotes(line, start) or _closing(line, start) is not None or line.lstrip().startswith("#"):
                continue
            yield _unclosed(line, number, start)
    if ended:
        yield _unclosed(lines[begun[0]], *begun)


def _unclosed(line: str, number: int, start: int) -> Trouble:
    quote = line[start]
    text = re.split(r"[\],}]|\s#", line[start + 1 :])[0].strip()
    what = f"the quote {quote} opened here is not closed on this line"
    fix = f"write {quote}{text[:60]}{quote}"
    if quote == "'" and re.match(r"\d", text):
        fix = f"write {text} without quotes"
    return Trouble(number, start, what, fix)


def _in_quotes(line: str, start: int) -> bool:
    """Whether a place of a line lies between quotes that are opened before it."""
    position = 0
    for match in _VALUE.finditer(line):
        opened = match.start("quote")
        if opened < position:
            continue
        if opened >= start:
            return False
        closed = _closing(line, opened)
        if closed is None or closed >= start:
            return True
        position = closed + 1
    return False


def _closing(line: str, start: int) -> int | None:
    """Where the quote that is opened at `start` is closed."""
    quote, at = line[start], start + 1
    while at < len(line):
        if quote == '"' and line[at] == "\\":
            at += 2
            continue
        if line[at] == quote:
            if quote == "'" and line[at + 1 : at + 2] == "'":
                at += 2
                continue
            return at
        at += 1
    return None


def _quotes(lines: Sequence[str], at: int, column: int, problem: str) -> Iterator[Trouble]:
    """Text behind a closing quote: `"a pint" of beer`, `'don't'`, `""beer""`."""
    line = lines[at] if at < len(lines) else ""
    before = line[:column].rstrip()
    if "<scalar>" not in problem or before[-1:] not in ("'", '"', "}", "]"):
        return
    if before[-1] in "}]":
        opened = before.rfind({"}": "{", "]": "["}[before[-1]])
        whole = line[opened:].split("#")[0].rstrip(" ,]") if opened >= 0 else line.strip()
        yield Trouble(at, max(opened, 0), "text that starts with a bracket needs quotes", f'write "{whole[:60]}"')
        return
    opened = max((m.start("quote") for m in _VALUE.finditer(line) if m.start("quote") < len(before) - 1), default=0)
    rest = re.split(r"[,\]}]|\s#", line[column:])[0].rstrip()
    inner = line[opened : len(before)] + line[len(before) : column] + rest
    if line[column : column + 1] in "\"'":
        yield Trouble(at, column, "a comma is missing between two texts", f"write {before[opened:]}, {rest[:60]}")
        return
    plain = inner.replace('""', '"').strip('"') if inner.startswith('""') else inner
    if inner.startswith("'"):
        plain = inner[1:].rstrip("'")
    fix = f'write "{plain[:60]}"' if '"' not in plain else f"write '{plain[:60]}'"
    yield Trouble(at, column, "there is text after the closing quote", f"put quotes around all of it: {fix}")


def _escape(at: int, column: int, problem: str) -> Iterator[Trouble]:
    if "unknown escape character" in problem:
        what = "a backslash has a special meaning in double quotes"
        yield Trouble(at, max(0, column - 1), what, "write / instead, or put single quotes around the text")


def _colon(lines: Sequence[str], at: int, column: int, problem: str) -> Iterator[Trouble]:
    if "mapping values are not allowed" not in problem:
        return
    line = lines[at]
    key = _KEY.match(line)
    if key and key.end("key") <= column and not line[key.end("key") : column].strip():  # the line's own first colon
        above = next((number for number in range(at - 1, -1, -1) if lines[number].strip()), None)
        indent = len(line) - len(line.lstrip())
        if above is not None:
            other = lines[above]
            if not _KEY.match(other) and indent == 0:
                yield Trouble(above, 0, "this line is neither a key nor a list item", "remove it, or put `#` before it")
            outside = _KEY.match(other)
            if outside and not outside["indent"] and outside["key"] in _RULE_KEYS:
                what = f"`{outside['key']}` belongs to a rule, and this line is not indented"
                yield Trouble(above, 0, what, "indent it like the other keys of its rule")
            wanted = len(other) - len(other.lstrip(" -"))
            what = f"this line is indented by {indent} spaces; expected {wanted}, as in line {above + 1}"
            if re.match(r"\s*-\w", other):
                what = f"there is no space after the dash in line {above + 1}"
                yield Trouble(above, other.index("-"), "there is no space after the dash", f"write `- {other.strip()[1:]}`")
            yield Trouble(at, indent, what, "indent it like the keys next to it")
        return
    if key:
        text = key["rest"].strip()
        quoted = f'"{text[:60]}"' if '"' not in text else f"'{text[:60]}'"
        yield Trouble(at, column, "text with `: ` in it needs quotes", f"write {key['key']}: {quoted}")
    else:
        yield Trouble(at, column, "text with `: ` in it needs quotes", f'write "{line.strip(" -")[:60]}"')


def _flow(lines: Sequence[str], at: int, begun: tuple[int, int], context: str, problem: str) -> Iterator[Trouble]:
    if "flow" not in context:
        return
    start, column = begun
    opened = lines[start][column : column + 1]
    wanted = {"[": "]", "{": "}"}.get(opened, "")
    here = lines[at] if at < len(lines) else ""
    if at > start and ("stream end" in problem or _KEY.match(here) or here.lstrip().startswith("- ") or not here.strip()):
        yield Trouble(start, column, f"the bracket `{opened}` opened here is not closed", f"put `{wanted}` at its end")
    elif got := re.search(r"but got '([\]}])'", problem):
        yield Trouble(at, here.find(got[1]), f"the bracket `{opened}` is closed by `{got[1]}`", f"write `{wanted}`")
    elif "but got" in problem and at == start:
        yield Trouble(start, column, f"the bracket `{opened}` opened here is not closed", f"put `{wanted}` at its end")


def _no_colon(lines: Sequence[str], begun: tuple[int, int], problem: str) -> Iterator[Trouble]:
    if "could not find expected ':'" not in problem:
        return
    at, column = begun
    line = lines[at] if at < len(lines) else ""
    body = line.strip()
    if body.startswith("{"):
        yield Trouble(at, column, "a list item starts here, but its dash is missing", f"write `- {body[:60]}`")
    if match := re.match(r"^(-\s+)?([A-Za-z_][\w]*)\s*(:|=>?|:=)\s*(\S.*)$", body):
        sign = match[3]
        what = "there is no space after the colon" if sign == ":" else f"`{sign}` is used where YAML needs a colon"
        yield Trouble(at, line.find(sign, column), what, f"write `{match[2]}: {match[4][:60]}`")
    elif (match := re.match(r"^(-\s+)?([a-z_]+)\s+(\S.*)$", body)) and match[2] in (*_RULE_KEYS, *_POLICY_KEYS):
        yield Trouble(at, column, f"there is no colon after `{match[2]}`", f"write `{match[2]}: {match[3][:60]}`")
    yield Trouble(
        at, column, "this line is neither a key nor a list item", "write `key: value`, remove it, or put `#` before it"
    )


def _special(line: str, at: int, column: int, problem: str) -> Iterator[Trouble]:
    if match := re.search(r"found character '(.)' that cannot start", problem):
        text = re.split(r"[,\]}]|\s#", line[column:])[0].strip()
        plain = text.strip("`")
        what = f"text cannot start with `{match[1]}` without quotes" if match[1] != "`" else "a backtick is not a quote in YAML"
        yield Trouble(at, column, what, f'write "{plain[:60]}"')
    elif "scanning an alias" in problem or "alphabetic or numeric character" in problem or "undefined alias" in problem:
        sign = next((s for s in "*&" if s in line[: column + 1]), "*")
        start = max(line[: column + 1].rfind(sign), 0)
        text = re.split(r"[,\]}]|\s#", line[start + 1 :])[0].rstrip()
        alone = not line[:start].strip() and line[start + 1 : start + 2] == " "
        fix = f"write `- {text.strip()[:60]}`" if alone else f'put quotes around it: "{sign}{text[:60]}"'
        yield Trouble(at, start, f"`{sign}` has a special meaning in YAML", fix)
    elif "block scalar" in problem or "chomping or indentation" in problem or "a comment or a line break" in problem:
        text = line[max(column - 1, 0) :].strip()
        yield Trouble(at, column, "text cannot start with `|` or `>` without quotes", f'put quotes around it: "{text[:60]}"')


def _indentation(
    lines: Sequence[str], at: int, column: int, begun: tuple[int, int], context: str, problem: str
) -> Iterator[Trouble]:
    if "expected <block end>" not in problem and "expected '<document start>'" not in problem:
        return
    line = lines[at] if at < len(lines) else ""
    indent = len(line) - len(line.lstrip())
    body = line.strip()
    if got := re.search(r"found '([\]}])'", problem):
        yield Trouble(at, column, f"this `{got[1]}` closes nothing: there is one too many", "remove it")
        return
    if re.match(r"(id|image)\s*:", body) and "block collection" in context:
        yield Trouble(at, indent, "a list item starts here, but its dash is missing", f"write `- {body[:60]}`")
        return
    if re.match(r"-\w", body):
        yield Trouble(at, indent, "there is no space after the dash", f"write `- {body[1:60]}`")
        return
    if "document start" in problem:
        first = next((n for n, other in enumerate(lines) if other.strip() and not other.lstrip().startswith("#")), 0)
        yield Trouble(first, 0, "the first line is indented, but others are not", "remove the spaces before it")
        return
    wanted = _wanted(lines, at, begun)
    if wanted is not None and wanted[1] != indent:
        line_of, spaces = wanted
        what = (
            f"this line is indented by {_spaces(indent)}, but line {line_of + 1}, which it belongs with, by {_spaces(spaces)}"
        )
        yield Trouble(at, indent, what, "give both the same")
    elif wanted is not None and body.startswith("- "):
        yield Trouble(
            at,
            indent,
            "a list item where a key is expected",
            "indent it less, like the dash of the item above",
        )


def _wanted(lines: Sequence[str], at: int, begun: tuple[int, int]) -> tuple[int, int] | None:
    """The line above that begins in the same way and is nearest in indentation, and that indentation."""
    line = lines[at]
    indent = len(line) - len(line.lstrip())
    dashed = line.lstrip().startswith("- ")
    best: tuple[int, int] | None = None
    for number in range(at - 1, -1, -1):
        other = lines[number]
        if not other.strip() or other.lstrip().startswith("#"):
            continue
        is_dashed = other.lstrip().startswith("- ")
        spaces = len(other) - len(other.lstrip(" -")) if is_dashed and not dashed else len(other) - len(other.lstrip())
        if (is_dashed or not dashed) and (best is None or abs(spaces - indent) < abs(best[1] - indent)):
            best = (number, spaces)
        if number <= begun[0]:
            break
    return best


def _spaces(count: int) -> str:
    return "1 space" if count == 1 else f"{count or 'no'} spaces"

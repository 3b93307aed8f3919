"""From the text of a YAML file to plain values, with the place of each, and every mistake of syntax that can be recognized.

YAML 1.2 by ruamel.yaml's parser; of its features only what a policy needs: mappings, lists and scalars. Aliases are taken,
within limits; tags and merge keys are not.
"""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from moderation.common.findings import Finding
from moderation.policy.characters import CLOSING, OPENING, Repaired, in_typographic_quotes, marks_that_join, repair
from moderation.policy.numbers import number_meant, written
from moderation.policy.syntax import explain

Location = tuple[str | int, ...]
"""Keys and list indexes that lead to a place in a policy file."""

MAX_BYTES = 1 << 20
"""A policy file larger than this is refused."""
MAX_DEPTH, MAX_ALIASES, MAX_VALUES = 20, 100, 50_000
"""Nesting, YAML aliases and values beyond these are refused: they make small files take hours."""

_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = ("str", "null", "bool", "int", "float", "timestamp", "map", "seq")
_TYPOGRAPHIC = "".join(sorted({*OPENING, *CLOSING, '"', "'", " "}))
_PARSER_ERRORS = (ValueError, TypeError, AttributeError, LookupError, AssertionError, NotImplementedError, RecursionError)
"""What ruamel.yaml has been seen to raise on broken text, besides its own errors."""


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a file: line and column from 0, and how many characters of that line."""

    line: int
    column: int
    length: int


@dataclass
class Source:
    """A parsed file. `content` is None where the syntax is broken."""

    name: str
    text: str
    content: Any = None
    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    """what can be read, and probably means something else than it says"""
    keys: dict[Location, Span] = field(default_factory=dict)
    values: dict[Location, Span] = field(default_factory=dict)
    repaired: Repaired = field(default_factory=lambda: Repaired(""))

    def finding(self, location: Location, message: str, hint: str = "", *, at_key: bool = False) -> Finding:
        """A mistake at `location`, or at the nearest place above it that exists in the file."""
        spans = [self.keys, self.values] if at_key else [self.values, self.keys]
        for end in range(len(location), -1, -1):
            place = location[:end]
            exact = end == len(location)
            for span in spans if exact else [self.keys, self.values]:
                if place in span:
                    return self.at(span[place], message, hint)
        return self.at(Span(0, 0, 1), message, hint)

    def at(self, span: Span, message: str, hint: str = "") -> Finding:
        """A mistake at a span."""
        lines = self.text.splitlines()
        line = lines[span.line] if span.line < len(lines) else ""
        column = self.repaired.column(span.line, span.column)
        return Finding(self.name, span.line + 1, column + 1, message, hint, "error", line, span.length)

    def doubt(self, span: Span, message: str, hint: str) -> None:
        """Note a warning at a span."""
        self.warnings.append(replace(self.at(span, message, hint), level="warning"))


def parse(text: str, name: str) -> Source:
    """Parse YAML. Never raises: mistakes are in `findings`."""
    source = Source(name, text)
    repaired = repair(text)
    for line, column, message, hint in repaired.problems:
        source.findings.append(source.at(Span(line, column, 1), message, hint))
    for line, column, message, hint in repaired.doubts:
        source.doubt(Span(line, column, 1), message, hint)
    text, source.repaired = repaired.text, repaired
    try:
        problem = _too_much(text)
        if problem is not None:
            source.findings.append(source.at(*problem))
            return source
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        trouble = explain(text, error)
        source.findings.append(source.at(Span(trouble.line, trouble.column, 1), trouble.message, trouble.hint))
        return source
    except ReaderError as error:
        line = text[: error.position].count("\n")
        source.findings.append(source.at(Span(line, 0, 1), "not valid YAML: there is a control character in this line"))
        return source
    except (YAMLError, *_PARSER_ERRORS) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        source.findings.append(source.at(Span(0, 0, 1), f"not valid YAML: {reason}"))
        return source
    if node is None:
        source.findings.append(source.at(Span(0, 0, 1), "the file is empty", "begin with `policy: <name>`"))
        return source
    builder = _Builder(source)
    source.content = builder.build(node, (), frozenset())
    return source


_MERGE_HINT = "write out the keys, or use another file with `include:`"
_FREE_TEXT = ("description", "owner")
_FIRST_KEYS = ("id", "image", "name")
"""Keys that an entry of a list has once: a second one is another entry, whose dash is missing."""


def _too_much(text: str) -> tuple[Span, str, str] | None:
    depth = aliases = 0
    for values, event in enumerate(YAML(typ="safe", pure=True).parse(text)):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        aliases += isinstance(event, AliasEvent)
        what = None
        if depth > MAX_DEPTH:
            what = f"nested deeper than {MAX_DEPTH} levels"
        elif aliases > MAX_ALIASES:
            what = f"more than {MAX_ALIASES} aliases (*name)"
        elif values > MAX_VALUES:
            what = f"more than {MAX_VALUES:,} values"
        if what:
            mark = event.start_mark
            return Span(mark.line, mark.column, 1), what, "is this a policy?"
    return None


class _Builder:
    """Turns YAML nodes into plain values and notes where each stood."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._built = 0
        self._reported = False

    def build(self, node: Node, location: Location, above: frozenset[int]) -> Any:
        span = _span(node, self._source.repaired.text)
        self._source.values.setdefault(location, span)
        self._built += 1
        if id(node) in above or self._built > MAX_VALUES:
            if not self._reported:
                self._reported = True
                message = "aliases (*name) that explode or contain themselves"
                self._source.findings.append(self._source.at(span, message, "write out the values"))
            return None
        if not str(node.tag).startswith(_TAG) or str(node.tag).removeprefix(_TAG) not in _KNOWN_TAGS:
            self._source.findings.append(self._source.at(span, f"the tag `{node.tag}` has no meaning here", "remove it"))
        if isinstance(node, MappingNode):
            return self._mapping(node, location, above | {id(node)})
        if isinstance(node, SequenceNode):
            entries = [entry for child in node.value for entry in self._entries(child)]
            return [self.build(child, (*location, i), above | {id(node)}) for i, child in enumerate(entries)]
        assert isinstance(node, ScalarNode)  # noqa: S101 - the only kind of node left
        return self._text(node, location, span)

    def _entries(self, node: Node) -> Iterator[Node]:
        """An entry of a list; several where the dashes between them are missing."""
        keys = [key.value for key, _ in node.value if isinstance(key, ScalarNode)] if isinstance(node, MappingNode) else []
        first = next((key for key in _FIRST_KEYS if keys.count(key) > 1), None)
        if first is None or len(keys) != len(node.value):
            yield node
            return
        begins = keys[0] if keys.count(keys[0]) == keys.count(first) else first
        starts = [0, *(i for i, key in enumerate(keys) if key == begins and i)]
        for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
            pairs = node.value[start:end]
            if start:
                key, value = pairs[0]
                message = "another list item starts here, but its dash is missing"
                hint = f"write `- {key.value}: {value.value if isinstance(value, ScalarNode) else '...'}`"
                self._source.findings.append(self._source.at(_span(key, self._source.repaired.text), message, hint))
            yield MappingNode(node.tag, pairs, pairs[0][0].start_mark, pairs[-1][1].end_mark)

    def _text(self, node: ScalarNode, location: Location, span: Span) -> Any:
        """A scalar, without the typographic quotes around it, which are a mistake."""
        value = self._scalar(node)
        if not isinstance(value, str):
            return value
        inner = in_typographic_quotes(value.strip())
        if inner is not None:
            message = f"typographic quotes do not enclose a text: they are part of {value.strip()[:60]!r}"
            if node.style in ("'", '"') and location[-1:] not in (("id",), ("mode",)):
                self._source.doubt(span, message, f'write "{inner[:60]}", unless the quotes are intended')
                return value
            number = number_meant(inner) if location[-1:] in (("review",), ("block",), ("near",)) else None
            if number is not None:
                self._source.findings.append(self._source.at(span, "a number is in quotes", f"did you mean {written(number)}?"))
                return number
            hint = f'use straight quotes: "{inner[:60]}"' if '"' not in inner else f"use straight quotes: '{inner[:60]}'"
            self._source.findings.append(self._source.at(span, message, hint))
            plain = str(node.value).strip().strip(_TYPOGRAPHIC)
            return self._scalar(ScalarNode(node.tag, plain)) if plain else value
        if node.style is None and location and isinstance(location[-1], int):
            if node.end_mark.line > node.start_mark.line:
                message = f"two lines are read as one text: {' '.join(value.split())[:80]!r}"
                self._source.doubt(span, message, "put a dash or a comma between them, or quotes around all of it")
            for mark in marks_that_join(value):
                message = f"`{mark}` separates nothing: this is one text"
                self._source.doubt(span, message, "separate texts with a comma and a space, or put quotes around the whole")
                break
        if node.style is None and location[-1:] not in tuple((key,) for key in _FREE_TEXT):
            self._comment(node, span)
        return value

    def _comment(self, node: ScalarNode, span: Span) -> None:
        """`#` where it cuts a text off without seeming to, or does not and seems to."""
        lines = self._source.repaired.text.splitlines()
        line = lines[node.end_mark.line] if node.end_mark.line < len(lines) else ""
        if re.search(r"\S#\s", str(node.value)):
            message = "`#` starts a comment only after a space: here it is part of the text"
            self._source.doubt(span, message, "put a space before it, or quotes around all of it")
        elif cut := re.match(r"\s+#(?=[^\s#!-])(\S+)", line[node.end_mark.column :]):
            message = f"`#{cut[1][:30]}` is a comment, and not part of the text"
            self._source.doubt(span, message, "put quotes around the whole text, or a space after the `#`")

    def _mapping(self, node: MappingNode, location: Location, above: frozenset[int]) -> dict[Hashable, Any]:
        content: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            span = _span(key_node, self._source.repaired.text)
            if str(key_node.tag) == f"{_TAG}merge":
                self._source.findings.append(self._source.at(span, "merge keys (`<<`) have no meaning here", _MERGE_HINT))
                continue
            if not isinstance(key_node, ScalarNode) or not isinstance(key_node.value, str):
                self._source.findings.append(self._source.at(span, "a key must be plain text"))
                continue
            key = str(key_node.value)
            straight = in_typographic_quotes(key)
            if straight:
                message = "typographic quotes do not enclose a key: they are part of it"
                self._source.findings.append(self._source.at(span, message, f"write `{straight}:`"))
                key = straight
            place = (*location, key)
            if key in content:
                first = self._source.keys[place].line + 1
                message = f"the key `{key}` appears twice, first in line {first}"
                self._source.findings.append(self._source.at(span, message, "remove one of them"))
                continue
            self._source.keys[place] = span
            if key in ("review", "block") and location[:1] == ("rules",) and _is_empty(value_node):
                message = f"`{key}` has no value, so the rule ignores it"
                self._source.doubt(span, message, "write a number from 0 to 1 after the colon, or remove the line")
            content[key] = self.build(value_node, place, above)
        return content

    def _scalar(self, node: ScalarNode) -> Any:
        tag = str(node.tag).removeprefix(_TAG)
        try:
            if tag == "null":
                return None
            if tag == "bool":
                return node.value.lower() in ("true", "yes", "on")
            if tag == "int":
                return int(node.value.replace("_", ""), 0) if node.value.startswith("0o") else int(node.value.replace("_", ""))
            if tag == "float":
                return float(node.value.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").replace(".NaN", "nan"))
        except ValueError:
            pass
        return str(node.value)


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and str(node.tag) == f"{_TAG}null"


def _span(node: Node, text: str) -> Span:
    start, end = node.start_mark, node.end_mark
    length = end.column - start.column if end.line == start.line else 0
    if length <= 0:
        lines = text.splitlines()
        line = lines[start.line] if start.line < len(lines) else ""
        length = max(1, len(line.rstrip()) - start.column)
    return Span(start.line, start.column, length)

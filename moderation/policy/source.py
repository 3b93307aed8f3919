"""From the text of a YAML file to plain values, with the place of each, and every mistake of syntax that can be told.

YAML 1.2 by ruamel.yaml's parser; of its features only what a policy needs: mappings, lists and scalars. Aliases are taken,
within limits; tags and merge keys are not.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from moderation.policy.findings import Finding

Location = tuple[str | int, ...]
"""Keys and list indexes that lead to a place in a policy file."""

MAX_BYTES = 1 << 20
"""A policy file larger than this is refused."""
MAX_DEPTH, MAX_ALIASES, MAX_VALUES = 20, 100, 50_000
"""Nesting, YAML aliases and values beyond these are refused: they make small files take hours."""

_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = ("str", "null", "bool", "int", "float", "timestamp", "map", "seq")
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
    keys: dict[Location, Span] = field(default_factory=dict)
    values: dict[Location, Span] = field(default_factory=dict)

    def finding(self, location: Location, message: str, hint: str = "", *, at_key: bool = False) -> Finding:
        """A mistake at `location`, or at the nearest place above it that stands in the file."""
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
        return Finding(self.name, span.line + 1, span.column + 1, message, hint, "error", line, span.length)


def parse(text: str, name: str) -> Source:
    """Parse YAML. Never raises: what is wrong stands in `findings`."""
    source = Source(name, text)
    try:
        problem = _too_much(text)
        if problem is not None:
            source.findings.append(source.at(*problem))
            return source
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem_text = " ".join(str(error.problem or error.context).split())
        hint = "indent with spaces, not tabs" if r"'\t'" in problem_text or "\\t" in problem_text else _SYNTAX_HINT
        span = Span(mark.line, mark.column, 1) if mark else Span(0, 0, 1)
        source.findings.append(source.at(span, f"not valid YAML: {problem_text}", hint))
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


_MERGE_HINT = "write the keys out, or take over another file with `include:`"
_SYNTAX_HINT = "is the line indented like its neighbours, and are quotes and brackets closed?"


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
        self._told = False

    def build(self, node: Node, location: Location, above: frozenset[int]) -> Any:
        span = _span(node, self._source.text)
        self._source.values.setdefault(location, span)
        self._built += 1
        if id(node) in above or self._built > MAX_VALUES:
            if not self._told:
                self._told = True
                message = "aliases (*name) that explode or contain themselves"
                self._source.findings.append(self._source.at(span, message, "write the values out"))
            return None
        if not str(node.tag).startswith(_TAG) or str(node.tag).removeprefix(_TAG) not in _KNOWN_TAGS:
            self._source.findings.append(self._source.at(span, f"the tag `{node.tag}` has no meaning here", "remove it"))
        if isinstance(node, MappingNode):
            return self._mapping(node, location, above | {id(node)})
        if isinstance(node, SequenceNode):
            return [self.build(child, (*location, i), above | {id(node)}) for i, child in enumerate(node.value)]
        assert isinstance(node, ScalarNode)  # noqa: S101 - the only kind of node left
        return self._scalar(node)

    def _mapping(self, node: MappingNode, location: Location, above: frozenset[int]) -> dict[Hashable, Any]:
        content: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            span = _span(key_node, self._source.text)
            if str(key_node.tag) == f"{_TAG}merge":
                self._source.findings.append(self._source.at(span, "merge keys (`<<`) have no meaning here", _MERGE_HINT))
                continue
            if not isinstance(key_node, ScalarNode) or not isinstance(key_node.value, str):
                self._source.findings.append(self._source.at(span, "a key must be plain text"))
                continue
            key = key_node.value
            place = (*location, key)
            if key in content:
                first = self._source.keys[place].line + 1
                message = f"the key `{key}` stands there twice, first in line {first}"
                self._source.findings.append(self._source.at(span, message, "remove one of them"))
                continue
            self._source.keys[place] = span
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


def _span(node: Node, text: str) -> Span:
    start, end = node.start_mark, node.end_mark
    length = end.column - start.column if end.line == start.line else 0
    if length <= 0:
        lines = text.splitlines()
        line = lines[start.line] if start.line < len(lines) else ""
        length = max(1, len(line.rstrip()) - start.column)
    return Span(start.line, start.column, length)

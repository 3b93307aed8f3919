"""From a YAML file that is no policy to its pydantic model: every mistake at once, each with its place and what to write.

A policy has hints of its own (`hints.py`); files of settings beside it, such as `queues.yaml`, share these.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from moderation.common.findings import Finding
from moderation.policy.hints import MESSAGES
from moderation.policy.including import read_text
from moderation.policy.yaml_source import Location, Source, Span, parse

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class FileKind(Generic[M]):
    """A kind of file, in words."""

    model: type[M]
    name: str
    """what messages call it, such as `queues`"""
    begin: str
    """how such a file begins, such as "start with `queues:`" """
    missing: Mapping[str, str]
    """what to write for a required key, by key"""
    more: Callable[[Source], list[Finding]] = lambda _source: []
    """further mistakes of a file, whose keys and values may be anything; reported with the others"""


@dataclass(frozen=True)
class ReadFile(Generic[M]):
    """A file that was read. `content` is None where it has mistakes."""

    content: M | None
    findings: tuple[Finding, ...] = ()


def read_file(path: Path, kind: FileKind[M]) -> ReadFile[M]:
    """Read and check a file. Never raises: `findings` has the mistakes."""
    try:
        text, finding = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ReadFile(None, (Finding(str(path), 1, 1, f"cannot read the {kind.name}: {reason.lower()}"),))
    if finding is not None:
        return ReadFile(None, (_of_kind(finding, kind),))
    return parse_file(text, str(path), kind)


def parse_file(text: str, name: str, kind: FileKind[M]) -> ReadFile[M]:
    """Check the text of a file; `name` is what messages call it."""
    source = parse(text.rstrip(), name)
    findings = [_of_kind(finding, kind) for finding in source.findings]
    content = None
    if isinstance(source.content, dict):
        try:
            content = kind.model.model_validate(source.content)
        except ValidationError as error:
            findings += [_finding(source, details, kind) for details in error.errors() if not _said_elsewhere(details, kind)]
        findings += kind.more(source)
    elif not findings:
        findings.append(source.at(Span(0, 0, 1), f"the {kind.name} are a mapping of keys", kind.begin))
    found = tuple(sorted(dict.fromkeys(findings)))
    return ReadFile(None if found else content, found)


def json_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of such a file, for completion in editors."""
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **model.model_json_schema(schema_generator=_Generator),
        "title": title,
    }


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, without titles that repeat the keys."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        """Keys are their own titles."""
        return False


def _of_kind(finding: Finding, kind: FileKind[M]) -> Finding:
    """What reading any YAML file may find, without its advice on policies."""
    hints = {"begin with `policy: <name>`": kind.begin, "is this a policy?": f"is this a file of {kind.name}?"}
    return replace(finding, hint=hints.get(finding.hint, finding.hint))


def _finding(source: Source, details: ErrorDetails, kind: FileKind[M]) -> Finding:
    # "<...>" is the branch of a union that was chosen: it is not in the file.
    location: Location = tuple(part for part in details["loc"] if not str(part).startswith("<"))
    named = next((part for part in reversed(location) if isinstance(part, str)), None)
    key = f"`{named}`" if named else f"the {kind.name}"
    if details["type"] == "extra_forbidden":
        return source.finding(location, f"unknown key {key}", _known(location, kind.model), at_key=True)
    if details["type"] == "missing":
        return source.finding(location[:-1], f"the key {key} is missing", kind.missing.get(str(location[-1]), ""), at_key=True)
    if details["input"] is None:
        return source.finding(location, f"{key} has no value", "write one after the colon, or remove the line", at_key=True)
    message, hint = _words(details)
    return source.finding(location, f"{key} {message}", hint)


def _words(details: ErrorDetails) -> tuple[str, str]:
    """What is wrong with a value, and what to write instead."""
    kind, given = details["type"], details["input"]
    context: dict[str, Any] = details.get("ctx") or {}
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']+)'", str(context.get("expected", "")))
        word = re.sub(r"[ -]+", "_", str(given).strip().lower())
        close = difflib.get_close_matches(word, choices, 1, 0.5)
        message = f"should be {' | '.join(choices)}, not {_shown(given)}"
        return message, f"did you mean `{close[0]}`?" if close else ""
    if kind == "string_pattern_mismatch" and isinstance(given, str):
        name = re.sub(r"[^a-z0-9_-]+", "-", given.strip().lower()).strip("-_")
        return "is not a valid name", f"use small letters a-z, digits, - and _{f': `{name}`' if name else ''}"
    words, hint = _WORDS.get(kind, (MESSAGES.get(kind) or details["msg"].removeprefix("Input ").removeprefix("String "), ""))
    message = words.format_map(context) if kind in _WORDS else words
    showing = kind in _WORDS and not isinstance(given, dict | list)
    return f"{message}{f', not {_shown(given)}' if showing else ''}", str(context.get("hint", hint))


_WORDS = {
    "float_type": ("should be a number", "write it with a point and without quotes"),
    "int_type": ("should be a whole number", "write 24, without a point and without quotes"),
    "greater_than_equal": ("should be at least {ge:g}", ""),
    "greater_than": ("should be above {gt:g}", ""),
    "less_than_equal": ("should be at most {le:g}", ""),
    "bool_type": ("should be true or false", ""),
    "string_type": ("should be text", "put quotes around it"),
    "too_short": ("should have at least one entry", ""),
    "tuple_type": ("should be a list", "write [one thing, another thing], or a line with `- ` for each"),
    "model_type": ("should be a mapping", "write {key: value}, or a line for each key"),
    "model_attributes_type": ("should be a mapping", "write {key: value}, or a line for each key"),
}
"""Pydantic's error types in the words of YAML, and what to write instead."""


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _known(location: Location, model: type[BaseModel]) -> str:
    fields = list(_model_at(location[:-1], model).model_fields)
    close = _close(str(location[-1]), fields)
    return (f"did you mean `{close}`? " if close else "") + f"known keys: {', '.join(fields)}"


def _close(given: str, fields: list[str]) -> str | None:
    found = difflib.get_close_matches(re.sub(r"[ -]+", "_", given.strip().lower()), fields, n=1, cutoff=0.55)
    return found[0] if found else None


def _said_elsewhere(details: ErrorDetails, kind: FileKind[M]) -> bool:
    """A key is missing since it is misspelt, or a list too short since its items are wrong: another finding says it all."""
    if details["type"] == "too_short":
        return bool(details["input"])
    if details["type"] != "missing" or not isinstance(details["input"], dict):
        return False
    fields = list(_model_at(details["loc"][:-1], kind.model).model_fields)
    return any(_close(str(key), fields) == details["loc"][-1] for key in details["input"] if key not in fields)


def _model_at(location: Location, model: type[BaseModel]) -> type[BaseModel]:
    """The model whose keys stand below `location`."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for inner in get_args(kind) if (found := _model_in(inner)) is not None), None)

"""Reading a policy file: YAML to a checked `Policy`, every mistake named with its line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.reader import ReaderError

from moderation.errors import PolicyError
from moderation.policy.schema import Location, MistakesError, Policy

MAX_BYTES = 1 << 20
"""A policy file larger than this is refused."""
MAX_DEPTH, MAX_ALIASES = 20, 100
"""Nesting and YAML aliases beyond these are refused: they make small files take hours."""


def load_policy(path: str | Path) -> Policy:
    """Read and check a policy file. Raises `PolicyError` that lists every mistake found."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(f"cannot read the policy {str(path)!r}: {reason.lower()}") from None
    if len(raw) > MAX_BYTES:
        raise PolicyError(f"{path}: larger than {MAX_BYTES:,} bytes; is this a policy?")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise PolicyError(f"{path}:{line}: not UTF-8: save the file as UTF-8 in your editor") from None
    return parse_policy(text, str(path))


def parse_policy(text: str, name: str = "policy") -> Policy:
    """Check the text of a policy; `name` is what messages call it. Raises `PolicyError`."""
    try:
        _check_nesting(text, name)
        content = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        hint = ": indent with spaces" if r"'\t'" in problem else ""
        raise PolicyError(f"{name}{where}: not valid YAML: {problem}{hint}") from None
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise PolicyError(f"{name}:{line}: not valid YAML: there is a control character in this line") from None
    except (YAMLError, *_PARSER_ERRORS) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PolicyError(f"{name}:1: not valid YAML: {reason}") from None
    if not isinstance(content, dict):
        raise PolicyError(f"{name}:1: a policy is a mapping that starts with `policy: <name>`")
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        mistakes = [mistake for details in error.errors() for mistake in _mistakes(details)]
        lines = sorted((_line(content, where), f"{_where(where)}{message}") for where, message in mistakes)
        raise PolicyError("\n".join(f"{name}:{line}: {told}" for line, told in dict.fromkeys(lines))) from None


_PARSER_ERRORS = (ValueError, TypeError, AttributeError, LookupError, AssertionError, NotImplementedError, RecursionError)
"""What ruamel.yaml has been seen to raise on broken text, besides its own errors."""


def _check_nesting(text: str, name: str) -> None:
    depth = aliases = 0
    for event in YAML(typ="rt", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        aliases += isinstance(event, AliasEvent)
        if depth > MAX_DEPTH or aliases > MAX_ALIASES:
            what = f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_ALIASES} aliases (*name)"
            raise PolicyError(f"{name}:{event.start_mark.line + 1}: {what}; is this a policy?")


def _mistakes(details: ErrorDetails) -> Iterator[tuple[Location, str]]:
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, MistakesError):
        yield from cause.mistakes
    elif details["type"] != "too_short" or not details["input"]:  # else its wrong items are named already
        # "<...>" is the branch of a union that was taken, nothing that stands in the file.
        yield tuple(part for part in details["loc"] if not str(part).startswith("<")), _message(details)


def _where(location: Location) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{text.lstrip('.')}: " if text else ""


_MESSAGES = {
    "extra_forbidden": "unknown key",
    "missing": "this key is missing",
    "string_type": "should be text: put quotes around it",
    "tuple_type": "should be a list, such as [one thing, another thing]",
    "model_type": "should be a mapping, such as {key: value}",
    "dict_type": "should be a mapping, such as {key: value}",
    "float_type": "should be a number, such as 0.6",
    "too_short": "should have at least one entry",
}
"""Pydantic's error types in the words of YAML."""


def _message(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ")
    return _MESSAGES.get(details["type"], message[:1].lower() + message[1:])


def _line(node: Any, location: Location) -> int:
    """The line of the deepest part of `location` that stands in the file, counted from 1."""
    line = 0
    for part in location:
        try:
            line = (node.lc.item(part) if isinstance(part, int) else node.lc.key(part))[0]
            node = node[part]
        except (AttributeError, LookupError, TypeError):
            break
    return line + 1

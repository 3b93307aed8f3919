"""Reading a policy file: YAML to a checked `Policy`, every mistake named with its line."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from moderation.errors import PolicyError
from moderation.policy.schema import Policy

MAX_BYTES = 1 << 20
"""A policy file larger than this is refused."""


def load_policy(path: str | Path) -> Policy:
    """Read and check a policy file. Raises `PolicyError` that lists every mistake found."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"cannot read the policy {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
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
        content = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise PolicyError(f"{name}{where}: not valid YAML: {error.problem or error.context}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise PolicyError(f"{name}: not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict):
        raise PolicyError(f"{name}:1: a policy is a mapping that starts with `policy: <name>`")
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        mistakes = [f"{name}:{_line(content, e['loc'])}: {_where(e['loc'])}{_message(e['msg'])}" for e in error.errors()]
        raise PolicyError("\n".join(mistakes)) from None


def _where(location: tuple[str | int, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{text.lstrip('.')}: " if text else ""


def _message(message: str) -> str:
    message = message.removeprefix("Value error, ")
    if message == "Extra inputs are not permitted":
        return "unknown key"
    return message[:1].lower() + message[1:]


def _line(node: Any, location: tuple[str | int, ...]) -> int:
    """The line of the deepest part of `location` that stands in the file, counted from 1."""
    line = 0
    for part in location:
        try:
            line = (node.lc.value(part) if isinstance(part, int) else node.lc.key(part))[0]
            node = node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line + 1

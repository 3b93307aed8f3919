"""Reading a policy file: YAML to a checked `Policy`, every mistake at once and each with its place."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from moderation.errors import ModelError, PolicyError
from moderation.policy.consistency import mistakes
from moderation.policy.findings import Finding
from moderation.policy.including import Merged, merge, read_text
from moderation.policy.model_choice import ModelChoice, Preprocess
from moderation.policy.schema import Example, Override, Policy, PolicyFile, Rule
from moderation.policy.source import Location


@dataclass(frozen=True)
class ReadPolicy:
    """A policy file that was read. `policy` is None where it has mistakes."""

    policy: Policy | None
    files: Mapping[str, str]
    """name and text of every file that belongs to it, its own first"""
    findings: tuple[Finding, ...]
    merged: Merged
    """where the parts of the policy stand"""


def load_policy(path: str | Path, folder: str | None = None) -> Policy:
    """Read and check a policy file. Raises `PolicyError` that lists every mistake found. `folder` as in `read_policy`."""
    return _required(read_policy(path, folder))


def parse_policy(text: str, name: str = "policy", folder: str | None = None) -> Policy:
    """Check the text of a policy; `name` is what messages call it. Raises `PolicyError`.

    Paths of weights in it are relative to `folder`, by default the current one.
    """
    return _required(_checked(merge(text, name, None), folder))


def read_policy(path: str | Path, folder: str | None = None) -> ReadPolicy:
    """Read and check a policy file and what it includes. Mistakes stand in `findings`.

    Paths of weights in it are relative to the file, or to `folder` for a copy that lies elsewhere.

    Raises `PolicyError` only if the file itself cannot be read.
    """
    path = Path(path)
    try:
        text, finding = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(f"cannot read the policy {str(path)!r}: {reason.lower()}") from None
    if finding is not None:
        return ReadPolicy(None, {str(path): text}, (finding,), Merged(None))
    return _checked(merge(text, str(path), path.parent), folder or str(path.parent.resolve()))


def located(path: str | Path, error: ModelError) -> ModelError:
    """An error about the model that a policy file names, with the place in the file that is at fault."""
    if not error.key:
        return error
    try:
        merged = read_policy(path).merged
        return ModelError(str(merged.finding(("model", error.key), error.message, error.hint)))
    except (PolicyError, LookupError):  # the file is another by now
        return error


def _required(read: ReadPolicy) -> Policy:
    if read.policy is None:
        raise PolicyError("\n".join(str(finding) for finding in read.findings))
    return read.policy


def _checked(merged: Merged, folder: str | None) -> ReadPolicy:
    findings = list(merged.findings)
    policy = None
    if isinstance(merged.content, dict):
        try:
            policy = Policy.model_validate(merged.content, context={"folder": folder})
        except ValidationError as error:
            findings += [_finding(merged, details) for details in error.errors() if not _is_told_elsewhere(details)]
        findings += [merged.finding(m.location, m.message, m.hint) for m in mistakes(merged.content)]
    findings = sorted(dict.fromkeys(findings))
    return ReadPolicy(None if findings else policy, merged.files, tuple(findings), merged)


def _is_told_elsewhere(details: ErrorDetails) -> bool:
    # Contradictions are told by `mistakes`; a list is too short only because its items are wrong and told themselves.
    return details["type"] == "value_error" or (details["type"] == "too_short" and bool(details["input"]))


def _finding(merged: Merged, details: ErrorDetails) -> Finding:
    # "<...>" is the branch of a union that was taken, and "[key]" marks a key: neither stands in the file.
    location = tuple(part for part in details["loc"] if not str(part).startswith("<") and part != "[key]")
    message = _MESSAGES.get(details["type"]) or details["msg"].removeprefix("Input ").removeprefix("String ")
    key = f"`{location[-1]}`" if location else "the policy"
    if details["type"] == "extra_forbidden":
        return merged.finding(location, f"unknown key {key}", _key_hint(location), at_key=True)
    if details["type"] == "missing":
        return merged.finding(location[:-1], f"the key {key} is missing", _MISSING.get(str(location[-1]), ""), at_key=True)
    if isinstance(location[-1] if location else None, int):
        key = f"`{location[-2]}`"
    return merged.finding(location, f"{key} {message}", _value_hint(details))


_MESSAGES = {
    "string_type": "should be text",
    "tuple_type": "should be a list",
    "model_type": "should be a mapping",
    "model_attributes_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "too_short": "should have at least one entry",
    "string_too_short": "should not be empty",
    "string_pattern_mismatch": "is no name",
    "date_from_datetime_parsing": "should be a date",
    "date_parsing": "should be a date",
    "date_type": "should be a date",
}
"""Pydantic's error types in the words of YAML."""

_HINTS = {
    "string_type": "put quotes around it",
    "tuple_type": "write [one thing, another thing], or a line with `- ` for each",
    "model_type": "write {key: value}, or a line for each key",
    "model_attributes_type": "write {key: value}, or a line for each key",
    "dict_type": "write {key: value}, or a line for each key",
    "float_type": "write 0.6, with a point and without quotes",
    "three_numbers": "for example [0.48, 0.46, 0.41]",
    "string_pattern_mismatch": "use small letters a-z, 0-9 and -, and in rule ids _ too",
    "date_from_datetime_parsing": "write 2026-12-31",
    "date_parsing": "write 2026-12-31",
    "date_type": "write 2026-12-31",
}

_MISSING = {
    "policy": "add a line `policy: my-policy`",
    "model": "add a line `model: {name: demo}`, or the model you use",
    "rules": "add `rules:` with a rule below it",
    "id": "add `id: a-short-name` to the rule",
    "prompts": 'add `prompts: ["what the image would show"]`',
    "name": "name a model: demo, ViT-B-32, hf-hub:...",
    "image": "name the image, relative to this file",
    "expect": "say what is expected: allow, review, block, or {rule: action}",
}


def _key_hint(location: Location) -> str:
    fields = list(_model_at(location[:-1]).model_fields)
    close = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.55)
    return (f"did you mean `{close[0]}`? " if close else "") + f"known keys: {', '.join(fields)}"


def _model_at(location: Location) -> type[BaseModel]:
    parts: dict[str, type[BaseModel]] = {"rules": Rule, "examples": Example, "model": ModelChoice, "overrides": Override}
    if location[:2] == ("model", "preprocess"):
        return Preprocess
    return parts.get(str(location[0]), PolicyFile) if location else PolicyFile


def _value_hint(details: ErrorDetails) -> str:
    if details["type"] in ("enum", "literal_error"):
        values = re.findall(r"'([^']+)'", str(details.get("ctx", {}).get("expected", "")))
        close = difflib.get_close_matches(str(details["input"]), values, n=1, cutoff=0.5)
        return f"did you mean `{close[0]}`?" if close else ""
    if details["type"] == "less_than_equal" and "preprocess" in details["loc"]:
        return "pixels go from 0 to 1 here: divide by 255"
    return _HINTS.get(details["type"], "")

"""Reading `actions.yaml`: YAML to checked `Actions`, every mistake at once and each with its place; its JSON Schema."""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from moderation.actions.targets import Actions, Target, is_plain_http
from moderation.common.findings import Finding
from moderation.errors import SettingsError
from moderation.policy.including import read_text
from moderation.policy.yaml_source import Location, Source, Span, parse


@dataclass(frozen=True)
class ReadActions:
    """A file that was read. `actions` is None where it has mistakes."""

    actions: Actions | None
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


def load_actions(path: str | Path) -> Actions:
    """Read and check a file. Raises `SettingsError` that lists every mistake found."""
    read = read_actions(path)
    if read.actions is None:
        raise SettingsError("\n".join(str(finding) for finding in read.findings))
    return read.actions


def read_actions(path: str | Path) -> ReadActions:
    """Read and check a file. Never raises: `findings` has the mistakes."""
    try:
        text, finding = read_text(Path(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ReadActions(None, (Finding(str(path), 1, 1, f"cannot read the actions: {reason.lower()}"),))
    if finding is not None:
        return ReadActions(None, (_advised(finding),))
    return parse_actions(text, str(path))


def parse_actions(text: str, name: str = "actions") -> ReadActions:
    """Check the text of a file; `name` is what messages call it."""
    source = parse(text.rstrip(), name)
    findings = [_advised(finding) for finding in source.findings]
    actions = None
    if isinstance(source.content, dict):
        try:
            actions = Actions.model_validate(source.content)
        except ValidationError as error:
            shown = (details for details in error.errors(include_url=False) if not _is_reported_elsewhere(details))
            findings += [_finding(source, details) for details in shown]
    elif not findings:
        findings.append(source.at(Span(0, 0, 1), "actions are a mapping of keys", _FIRST))
    found = tuple(sorted(dict.fromkeys(_without_secrets(source, findings))))
    if found or actions is None:
        return ReadActions(None, found)
    return ReadActions(actions, (), tuple(_warnings(source, actions)))


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a file, for completion and checks in editors."""
    found = Actions.model_json_schema(schema_generator=_Generator)
    found["$defs"]["Secret"] |= {"minProperties": 1, "maxProperties": 1}
    found["$defs"]["Target"]["oneOf"] = [{"required": [kind]} for kind in ("webhook", "s3_tags", "jsonl")]
    return {"$schema": _Generator.schema_dialect, **found, "title": "clip-moderation actions"}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, without titles that repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Keys are their own titles."""
        return False


_FIRST = "begin with `targets:`"
_ADVICE = {
    "begin with `policy: <name>`": _FIRST,
    "is this a policy?": "is this a file of actions?",
    "write out the keys, or use another file with `include:`": "write out the keys",
}
_NOT_HERE = "name where it is: {env: NAME} or {prefect_block: name}; never write a secret into this file"
_SECRET_KEYS = ("secret", "previous_secret", "headers")
_WORDS = {
    "string_type": ("should be text", "put quotes around it"),
    "tuple_type": ("should be a list", "write [one, two], or a line with `- ` for each"),
    "model_type": ("should be a mapping", "write {key: value}, or a line for each key"),
    "model_attributes_type": ("should be a mapping", "write {key: value}, or a line for each key"),
    "dict_type": ("should be a mapping", "write {key: value}, or a line for each key"),
    "float_parsing": ("should be a number", "write 10, without quotes"),
    "float_type": ("should be a number", "write 10, without quotes"),
    "int_parsing": ("should be a whole number", "write 5, without quotes"),
    "int_type": ("should be a whole number", "write 5, without quotes"),
    "int_from_float": ("should be a whole number", "write 5"),
    "greater_than": ("should be above {gt:g}", ""),
    "greater_than_equal": ("should be at least {ge:g}", ""),
    "less_than_equal": ("should be at most {le:g}", ""),
    "too_short": ("should have at least one entry", ""),
    "string_too_short": ("should not be empty", ""),
    "too_long": ("should have at most {max_length} entries", ""),
    "string_pattern_mismatch": ("is not a valid name", "use small letters a-z, 0-9 and -"),
    "date_from_datetime_parsing": ("should be a date", "write 2026-12-31"),
    "date_parsing": ("should be a date", "write 2026-12-31"),
    "date_type": ("should be a date", "write 2026-12-31"),
}
_MISSING = {
    "targets": _FIRST,
    "name": "add `name: a-short-name`",
    "actions": "add `actions: [block]`",
    "url": "add `url: https://...`",
    "secret": "add `secret: {env: NAME}`, the environment variable that holds the signing key",
    "tags": 'add `tags: {moderation: "{action}"}`',
    "folder": "add `folder:` with a folder, or s3://bucket/prefix",
}


def _advised(finding: Finding) -> Finding:
    return replace(finding, hint=_ADVICE.get(finding.hint, finding.hint))


def _finding(source: Source, details: ErrorDetails) -> Finding:
    # "<...>" is the branch of a union that was chosen, "[key]" marks a key: neither is in the file.
    location: Location = tuple(part for part in details["loc"] if not str(part).startswith("<") and part != "[key]")
    kind = details["type"]
    if kind == "extra_forbidden":
        return _quiet(source.finding(location, f"unknown key `{location[-1]}`", _known(location), at_key=True), location)
    if kind == "missing":
        hint = _MISSING.get(str(location[-1]), "")
        return source.finding(location[:-1], f"the key `{location[-1]}` is missing", hint, at_key=True)
    if any(key in location for key in _SECRET_KEYS) and kind in ("model_type", "model_attributes_type", "dict_type"):
        return _quiet(source.finding(location, f"`{location[-1]}` should not be written here", _NOT_HERE), location)
    key = _named(location)
    context: dict[str, Any] = details.get("ctx") or {}
    if kind in ("enum", "literal_error"):
        choices = re.findall(r"'([^']+)'", str(context.get("expected", "")))
        close = difflib.get_close_matches(str(details["input"]).lower(), choices, 1, 0.5)
        hint = f"did you mean `{close[0]}`?" if close else ""
        return source.finding(location, f"{key} should be {' | '.join(choices)}", hint)
    words, hint = _WORDS.get(kind, (details["msg"].removeprefix("Input "), ""))
    finding = source.finding(location, f"{key} {words.format_map(context) if kind in _WORDS else words}", hint)
    return _quiet(finding, location)


def _is_reported_elsewhere(details: ErrorDetails) -> bool:
    """A list is too short only because its entries are wrong, which is reported already."""
    return details["type"] == "too_short" and bool(details["input"])


def _named(location: Location) -> str:
    if not location:
        return "the file"
    if isinstance(location[-1], int):
        return "the target" if location[-2] == "targets" else f"`{location[-2]}`"
    return f"`{location[-1]}`"


def _quiet(finding: Finding, location: Location) -> Finding:
    """Without the line of the file, where somebody may have written a secret."""
    return replace(finding, source="") if any(key in location for key in (*_SECRET_KEYS, "url", "folder")) else finding


def _without_secrets(source: Source, findings: list[Finding]) -> list[Finding]:
    """Findings without the lines on which a secret stands where only its place may be named."""
    lines = {
        span.line + 1
        for location, span in source.values.items()
        if any(key in location for key in (*_SECRET_KEYS, "url"))
        and location[-1] not in ("env", "prefect_block")
        and not isinstance(_at(source.content, location), dict)
    }
    return [replace(finding, source="") if finding.line in lines else finding for finding in findings]


def _at(content: Any, location: Location) -> Any:
    value = content
    for part in location:
        value = value[part] if isinstance(value, dict | list) else None  # type: ignore[index]  # an int where it is a list
    return value


def _known(location: Location) -> str:
    fields = list(_model_at(location[:-1]).model_fields)
    close = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.55)
    return (f"did you mean `{close[0]}`? " if close else "") + f"known keys: {', '.join(fields)}"


def _model_at(location: Location) -> type[BaseModel]:
    """The model whose keys stand below a location; the nearest above it where there is none."""
    model: type[BaseModel] = Actions
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part))
        inner = [k for k in _types(field.annotation) if issubclass(k, BaseModel)] if field else []
        model = inner[0] if inner else model
    return model


def _types(annotation: Any) -> list[type]:
    if isinstance(annotation, type):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _types(argument)]


def _warnings(source: Source, actions: Actions) -> list[Finding]:
    found = []
    for number, target in enumerate(actions.targets):
        if target.webhook is not None and isinstance(target.webhook.url, str) and is_plain_http(target.webhook.url):
            message = f"{target.name}: messages are sent unencrypted: anybody on the network can read them"
            place: Location = ("targets", number, "webhook", "url")
            found.append(replace(source.finding(place, message, "use https://"), level="warning"))
    return [*source.warnings, *found]


def chosen(actions: Actions, names: tuple[str, ...]) -> tuple[Target, ...]:
    """The targets of these names, or all. Raises `SettingsError`."""
    known = {target.name: target for target in actions.targets}
    for name in names:
        if name not in known:
            raise SettingsError(f"there is no target {name!r}: there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else actions.targets

"""Reading a file of quality limits: YAML to checked `QualityLimits`, every mistake at once and each with its place."""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from moderation.common.findings import Finding
from moderation.policy.including import read_text
from moderation.policy.yaml_source import Location, Source, Span, parse
from moderation.quality.quality_limits import QualityLimits

MANY = 12
"""More known keys than this are not listed where one of them is near."""


@dataclass(frozen=True)
class ReadLimits:
    """A file of limits that was read. `limits` is None where it has mistakes."""

    limits: QualityLimits | None
    findings: tuple[Finding, ...] = ()


def read_limits(path: str | Path | None) -> ReadLimits:
    """Read and check a file of limits; None gives the defaults. Never raises: `findings` has the mistakes."""
    if path is None:
        return ReadLimits(QualityLimits())
    try:
        text, finding = read_text(Path(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"cannot read the quality limits: {reason.lower()}"
        return ReadLimits(None, (Finding(str(path), 1, 1, message, "to use the defaults, leave out the setting"),))
    if finding is not None:
        return ReadLimits(None, (_of_limits(finding),))
    return parse_limits(text, str(path))


def parse_limits(text: str, name: str = "quality limits") -> ReadLimits:
    """Check the text of a file of limits; `name` is what messages call it."""
    source = parse(text.rstrip(), name)
    findings = [_of_limits(finding) for finding in source.findings]
    limits = None
    if isinstance(source.content, dict):
        try:
            limits = QualityLimits.model_validate(source.content)
        except ValidationError as error:
            findings += [_finding(source, details) for details in error.errors()]
    elif not findings:
        findings.append(source.at(Span(0, 0, 1), "quality limits are a mapping of keys", "start with `checks:`"))
    found = tuple(sorted(dict.fromkeys(findings)))
    return ReadLimits(None if found else limits, found)


def _of_limits(finding: Finding) -> Finding:
    """What reading any YAML file may find, without its advice on policies."""
    return replace(finding, hint=_ADVICE.get(finding.hint, finding.hint))


_ADVICE = {"begin with `policy: <name>`": "start with `checks:`", "is this a policy?": "is this a file of quality limits?"}


def _finding(source: Source, details: ErrorDetails) -> Finding:
    location: Location = details["loc"]
    key = f"`{location[-1]}`"
    if details["type"] == "extra_forbidden":
        return source.finding(location, f"unknown key {key}", _known(location), at_key=True)
    if details["type"] == "literal_error" and location not in source.values:
        key = f"`{location[-2]}`"  # `drift: of`, short for `drift: {severity: of}`
    words, hint = _WORDS.get(details["type"], (details["msg"].removeprefix("Input "), ""))
    context: dict[str, Any] = details.get("ctx") or {}
    given = f", not {_shown(details['input'])}" if details["type"] in _SHOWING else ""
    if details["type"] == "literal_error":
        choices = re.findall(r"'([^']+)'", str(context.get("expected", "")))
        words, close = f"should be {' | '.join(choices)}", difflib.get_close_matches(str(details["input"]), choices, 1, 0.5)
        hint = f"did you mean `{close[0]}`?" if close else ""
    return source.finding(location, f"{key} {words.format_map(context)}{given}", hint, at_key=details["input"] is None)


_SHOWING = ("float_type", "int_type", "literal_error", "greater_than_equal", "greater_than", "less_than_equal")

_WORDS = {
    "float_type": ("should be a number", "write 0.05, with a point and without quotes"),
    "finite_number": ("should be a finite number", "write `off` to switch a check off"),
    "int_type": ("should be a whole number", "write 100, without a point and without quotes"),
    "greater_than_equal": ("should be at least {ge:g}", ""),
    "greater_than": ("should be above {gt:g}", ""),
    "less_than_equal": ("should be at most {le:g}", "shares are written as 0.05 for 5 %"),
    "model_type": ("should be a mapping", "write {key: value}, or a line for each key"),
    "model_attributes_type": ("should be a mapping", "write {key: value}, or a line for each key"),
    "min_runs": ("({min_runs}) is above `runs` ({runs}): nothing would ever be checked", "set min_runs at or below runs"),
}
"""Pydantic's error types in the words of YAML, and what to write instead."""


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _known(location: Location) -> str:
    fields = list(_model_at(location[:-1]).model_fields)
    close = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.55)
    listed = f"known keys: {', '.join(fields)}"
    if not close:
        return listed
    return f"did you mean `{close[0]}`?" + (f" {listed}" if len(fields) <= MANY else "")


def _model_at(location: Location) -> type[BaseModel]:
    """The model whose keys stand below `location`."""
    model: type[BaseModel] = QualityLimits
    for part in location:
        kind = model.model_fields[str(part)].annotation
        model = next(k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel))
    return model

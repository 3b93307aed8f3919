"""Reads a file of deployments, prefect.yaml, for its checks: the settings of each, and their places in the file."""

import difflib
import posixpath
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from moderation.common.findings import Finding
from moderation.common.secrets import redacted
from moderation.errors import SettingsError
from moderation.policy.including import read_text
from moderation.policy.yaml_source import Location, Source, parse

SETTINGS = ("parameters", "settings")
"""The key of a deployment's settings."""
WHEN_BUSY = ("wait", "cancel")

_SECRET_NAME = re.compile(
    r"(secret|password|passwd|token|credential|private_?key|access_?key|api_?key|auth_string)", re.IGNORECASE
)
_BLOCK = re.compile(r"\{\{\s*prefect\.blocks\.")
_BLOCK_NAME = re.compile(r"[a-z0-9-]+/[a-zA-Z0-9_-]+")
_FROM_ENVIRONMENT = "use the worker's environment, an AWS profile or role, or a secret block in the work pool"
_NO_POLICY = {
    "begin with `policy: <name>`": "begin with `deployments:`",
    "is this a policy?": "is this a file of deployments?",
    "write out the keys, or use another file with `include:`": "write out the keys",
}


@dataclass(frozen=True)
class Deployment:
    """One deployment as written in the file."""

    name: str
    entrypoint: str
    """path/to/file.py:function, as written in the file"""
    settings: Any
    location: Location
    pool: str
    job_variables: dict[str, Any]


@dataclass(frozen=True)
class DeploymentFile:
    """A file of deployments that was read, and what is wrong with it as a file."""

    source: Source
    folder: Path
    deployments: tuple[Deployment, ...]
    notify: tuple[str, ...]
    """notification blocks, as type/name"""
    findings: tuple[Finding, ...]

    def of_pydantic(self, deployment: Deployment, model: type[BaseModel], details: ErrorDetails) -> Finding:
        """A mistake in a deployment's settings, at its place."""
        location: Location = (*deployment.location, *SETTINGS, *details["loc"])
        key = f"`{details['loc'][-1]}`" if details["loc"] else "`settings`"
        if details["type"] == "extra_forbidden":
            known = list(model.model_fields)
            near = difflib.get_close_matches(str(details["loc"][-1]), known, n=1, cutoff=0.55)
            hint = (f"did you mean `{near[0]}`? " if near else "") + f"known settings: {', '.join(known)}"
            return self.source.finding(location, f"{deployment.name}: unknown setting {key}", hint, at_key=True)
        if details["type"] == "missing":
            return self.source.finding(location[:-1], f"{deployment.name}: the setting {key} is missing", at_key=True)
        message = details["msg"].removeprefix("Input ").removeprefix("Value error, ").removeprefix("String ")
        given = details["input"]
        shown = f", not {redacted(repr(given))[:60]}" if isinstance(given, str | int | float) else ""
        return self.source.finding(location, f"{deployment.name}: {key} {message}{shown}")


def flow_key(entrypoint: str) -> str:
    """One form of an entrypoint for all: `./flows/moderate.py:moderate` and `flows.moderate.moderate` are the same flow."""
    path, colon, function = entrypoint.rpartition(":")
    if not colon and "/" not in entrypoint:
        path, _, function = entrypoint.rpartition(".")
        path = path.replace(".", "/") + ".py"
    return f"{posixpath.normpath(path)}:{function}"


def read_deployments(path: Path) -> DeploymentFile:
    """Read a file of deployments. Raises `SettingsError` only if it cannot be read; mistakes are in `findings`."""
    try:
        text, unreadable = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"cannot read the deployments {str(path)!r}: {reason.lower()}") from None
    source = parse(text, str(path))
    findings = [replace(found, hint=_NO_POLICY.get(found.hint, found.hint)) for found in source.findings]
    if unreadable is not None:
        findings.append(unreadable)
    content = source.content if isinstance(source.content, dict) else {}
    listed = content.get("deployments")
    if not findings and not isinstance(listed, list):
        findings.append(source.finding((), "there are no deployments", "add `deployments:` with a list below it"))
    deployments = []
    for number, entry in enumerate(listed if isinstance(listed, list) else []):
        found = _deployment(source, entry, ("deployments", number), findings)
        if found is not None:
            deployments.append(found)
    names = [deployment.name for deployment in deployments]
    findings += [
        source.finding((*deployment.location, "name"), f"two deployments are named {deployment.name!r}")
        for deployment in deployments
        if names.count(deployment.name) > 1
    ]
    return DeploymentFile(
        source, path.absolute().parent, tuple(deployments), _notify(source, content, findings), tuple(dict.fromkeys(findings))
    )


def _deployment(source: Source, entry: Any, location: Location, findings: list[Finding]) -> Deployment | None:
    if not isinstance(entry, dict):
        findings.append(source.finding(location, "a deployment is a mapping of keys", "begin with `- name: nightly`"))
        return None
    missing = [key for key in ("name", "entrypoint") if not isinstance(entry.get(key), str)]
    if missing:
        findings.append(source.finding(location, f"a deployment needs {' and '.join(f'`{key}`' for key in missing)}"))
        return None
    parameters = _mapping(entry.get("parameters"))
    busy = parameters.get("when_busy", WHEN_BUSY[0])
    if busy not in WHEN_BUSY:
        place: Location = (*location, "parameters", "when_busy")
        findings.append(source.finding(place, f"`when_busy` should be {' or '.join(WHEN_BUSY)}, not {busy!r}"))
    work_pool = _mapping(entry.get("work_pool"))
    pool = work_pool.get("name")
    if not isinstance(pool, str):
        findings.append(source.finding((*location, "work_pool"), "names no work pool", "add `work_pool: {name: moderation}`"))
    _no_secrets(source, work_pool.get("job_variables"), (*location, "work_pool", "job_variables"), findings)
    _no_secrets(source, parameters, (*location, "parameters"), findings)
    return Deployment(
        entry["name"],
        flow_key(entry["entrypoint"]),
        parameters.get("settings"),
        location,
        pool if isinstance(pool, str) else "",
        _mapping(work_pool.get("job_variables")),
    )


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _no_secrets(source: Source, content: Any, location: Location, findings: list[Finding]) -> None:
    """`prefect deploy` fills in blocks and the environment; the result is stored as plain text, visible to everybody."""
    if isinstance(content, dict):
        for key, value in content.items():
            _no_secrets(source, value, (*location, key), findings)
            if isinstance(value, str) and value and _SECRET_NAME.search(str(key)) and not str(key).endswith("_PATH"):
                message = f"`{key}` looks like a secret, which Prefect would store as plain text"
                finding = source.finding((*location, key), message, _FROM_ENVIRONMENT, at_key=True)
                findings.append(replace(finding, source=""))  # the line holds it
    elif isinstance(content, list):
        for number, value in enumerate(content):
            _no_secrets(source, value, (*location, number), findings)
    elif isinstance(content, str) and _BLOCK.search(content):
        message = "`prefect deploy` fills in this block and stores its content as plain text"
        findings.append(source.finding(location, message, _FROM_ENVIRONMENT))


def _notify(source: Source, content: dict[Any, Any], findings: list[Finding]) -> tuple[str, ...]:
    definitions = content.get("definitions")
    listed = definitions.get("notify") if isinstance(definitions, dict) else None
    blocks = listed if isinstance(listed, list) else [] if listed is None else [listed]
    named = []
    for number, block in enumerate(blocks):
        if isinstance(block, str) and _BLOCK_NAME.fullmatch(block):
            named.append(block)
        else:
            place: Location = ("definitions", "notify", number) if isinstance(listed, list) else ("definitions", "notify")
            message = f"`notify` names {block!r}, which is not a block"
            findings.append(source.finding(place, message, "give its type and its name, such as slack-webhook/moderation"))
    return tuple(named)

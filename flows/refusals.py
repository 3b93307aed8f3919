"""What Prefect would refuse of prefect.yaml when it deploys, or ignore in silence: reported before a server is asked."""

import ast
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml  # type: ignore[import-untyped]  # which Prefect reads prefect.yaml with
from prefect import Flow
from prefect.client.schemas.actions import DeploymentCreate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.events import DeploymentTriggerTypes
from prefect.server.schemas.actions import DeploymentCreate as StoredDeployment
from prefect.utilities.schema_tools import validate
from pydantic import BaseModel, TypeAdapter, ValidationError

from flows.deployment_shape import SHAPES, DeploymentShape, is_template, without_templates
from flows.schedules import check_schedule
from moderation.common.findings import Finding
from moderation.common.secrets import redacted
from moderation.deployment.checks import Checked
from moderation.deployment.file import SETTINGS, Deployment, DeploymentFile, flow_key
from moderation.policy.yaml_source import Location, Span

_TRIGGER: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)
_LIMIT_HINT = "give a whole number from 1, or {limit: 1, collision_strategy: CANCEL_NEW}"
_FLOW_HINT = "path/to/file.py:function, relative to this file"


@dataclass
class Refusals:
    """What Prefect would refuse, and what it makes of the rest."""

    findings: list[Finding] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)


def as_prefect_reads(file: DeploymentFile) -> tuple[DeploymentFile, list[Any]]:
    """The file with values as Prefect's parser gives them (YAML 1.1: `no` is false), and its entries of `deployments`.

    A file that only our own parser can read gets a finding for that, and no entries.
    """
    if file.source.content is None or file.source.findings:
        return file, []
    try:
        content = yaml.safe_load(file.source.text)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        finding = file.source.at(
            Span(mark.line, mark.column, 1) if mark else Span(0, 0, 1), f"Prefect cannot read this: {reason}"
        )
        return replace(file, findings=(*file.findings, finding)), []
    entries = content.get("deployments") if isinstance(content, dict) else None
    entries = entries if isinstance(entries, list) else []
    return replace(file, deployments=tuple(_with_values(deployment, entries) for deployment in file.deployments)), entries


def _with_values(deployment: Deployment, entries: list[Any]) -> Deployment:
    parameters = entries[int(deployment.location[1])].get("parameters")
    return replace(deployment, settings=parameters.get("settings") if isinstance(parameters, dict) else None)


def refusals(
    file: DeploymentFile, entries: list[Any], flows: Mapping[str, Flow[Any, Any]], models: Mapping[str, type[BaseModel]]
) -> Refusals:
    """Try each entry of `deployments` with Prefect's own classes. Never raises for a mistake in them.

    Args:
        file: what was read of prefect.yaml.
        entries: its entries of `deployments`, as Prefect reads them.
        flows: this program's flows, by entrypoint.
        models: their settings, by entrypoint.
    """
    found = Refusals()
    for number, entry in enumerate(entries):
        if isinstance(entry, dict):
            _Entry(file, number, entry, found).run(flows, models)
    found.findings = list(dict.fromkeys(found.findings))
    return found


class _Entry:
    """The checks of one entry of `deployments`."""

    def __init__(self, file: DeploymentFile, number: int, entry: dict[str, Any], found: Refusals) -> None:
        self._file, self._entry, self._found = file, entry, found
        self._location: Location = ("deployments", number)
        self._name = str(entry.get("name"))

    def run(self, flows: Mapping[str, Flow[Any, Any]], models: Mapping[str, type[BaseModel]]) -> None:
        if not self._shape():
            return
        self._values()
        entrypoint = self._entry["entrypoint"]
        if not is_template(entrypoint):
            problem = _no_flow(entrypoint, self._file.folder)
            if problem:
                self._wrong(("entrypoint",), f"`entrypoint: {entrypoint}` {problem}", _FLOW_HINT)
        flow = flows.get(flow_key(entrypoint))
        parameters = self._entry.get("parameters") or {}
        if flow is not None:
            self._parameters(flow, parameters, ())
        schedules: list[tuple[Location, dict[str, Any]]] = [
            (("schedules", i), schedule) for i, schedule in enumerate(self._entry.get("schedules") or [])
        ]
        if self._entry.get("schedule"):
            if schedules:
                self._wrong(("schedule",), "both `schedule` and `schedules`", "move it into `schedules`", at_key=True)
            schedules = [(("schedule",), self._entry["schedule"])]
        for place, schedule in schedules:
            self._schedule(schedule, place)
            own = schedule.get("parameters") or {}
            if flow is not None and own:
                self._parameters(flow, own, place)
                self._settings(models[flow_key(entrypoint)], own, place)
        slugs = [schedule.get("slug") for _, schedule in schedules]
        for (place, _), slug in zip(schedules, slugs, strict=True):
            if slug and slugs.count(slug) > 1:
                self._wrong((*place, "slug"), f"two schedules have the slug {slug!r}", "each needs its own")

    def _shape(self) -> bool:
        """Whether every key is known and its value of the right type."""
        try:
            DeploymentShape.model_validate(without_templates(self._entry))
        except ValidationError as error:
            for details in error.errors():
                place = tuple(part for part in details["loc"] if not str(part).startswith(("list[", "dict[")))
                key = f"`{place[-1]}`"
                if details["type"] == "extra_forbidden":
                    known = list(SHAPES.get(str(place[0]) if len(place) > 1 else "", DeploymentShape).model_fields)
                    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.55)
                    hint = (f"did you mean `{near[0]}`? " if near else "") + f"known keys: {', '.join(known)}"
                    self._wrong(place, f"unknown key {key}, which Prefect ignores", hint, at_key=True)
                elif details["type"] != "missing":  # what reading the file has reported
                    message = details["msg"].removeprefix("Input ")
                    self._wrong(place, f"{key} {message}{_given(details['input'])}", _hint(place, details["input"]))
            return False
        return True

    def _values(self) -> None:
        """What Prefect's classes say of values, whatever their keys."""
        limit = self._entry.get("concurrency_limit")
        if isinstance(limit, dict):
            unknown = set(limit) - {"limit", "collision_strategy", "grace_period_seconds"}
            for key in sorted(map(str, unknown)):
                self._wrong(("concurrency_limit", key), f"unknown key `{key}`, which Prefect ignores", _LIMIT_HINT, at_key=True)
            try:
                ConcurrencyOptions.model_validate({k: v for k, v in limit.items() if k not in {*unknown, "limit"}})
            except ValidationError as error:
                for details in error.errors():
                    place = ("concurrency_limit", *details["loc"])
                    message = details["msg"].removeprefix("Input ")
                    self._wrong(place, f"`{place[-1]}` {message}{_given(details['input'])}", _LIMIT_HINT)
            limit = limit.get("limit")
        if not (limit is None or is_template(limit) or (type(limit) is int and limit > 0)):
            self._wrong(("concurrency_limit",), f"`concurrency_limit` should be greater than 0, not {limit!r:.40}", _LIMIT_HINT)
        pool = self._entry.get("work_pool") or {}
        variables = pool.get("job_variables") or {}
        self._environment(variables.get("env"))
        values = {key: self._entry.get(key) for key in ("name", "tags", "description", "version")}
        values = {key: value for key, value in values.items() if value is not None and not is_template(value)}
        for model in (DeploymentCreate, StoredDeployment):
            try:
                model(flow_id=uuid4(), **{"name": "name", **values})
            except ValidationError as error:
                for details in error.errors():
                    message = details["msg"].removeprefix("Input ").removeprefix("Value error, ").removeprefix("String ")
                    hint = "leave out / % & < >" if details["type"] == "string_pattern_mismatch" else ""
                    self._wrong(details["loc"], f"`{details['loc'][-1]}` {message}{_given(details['input'])}", hint)

        for number, trigger in enumerate(self._entry.get("triggers") or []):
            try:
                _TRIGGER.validate_python({"name": self._name, **without_templates(trigger)})
            except ValidationError as error:
                first = error.errors()[0]  # each kind of trigger has its own
                key = f"`{first['loc'][-1]}` " if first["loc"] else ""
                self._wrong(("triggers", number), f"Prefect has no such trigger: {key}{first['msg'].removeprefix('Input ')}")

    def _environment(self, variables: object) -> None:
        """Variables of the environment: text, for every type of work pool."""
        place = ("work_pool", "job_variables", "env")
        if variables is None or isinstance(variables, list) or is_template(variables):
            return
        if not isinstance(variables, dict):
            self._wrong(place, "`env` should be a mapping of names to text")
            return
        for name, value in variables.items():
            if not isinstance(value, str | None):
                self._wrong((*place, str(name)), f"`{name}` should be text, not {type(value).__name__}", "put it in quotes")

    def _parameters(self, flow: Flow[Any, Any], values: dict[str, Any], place: Location) -> None:
        """Parameters against the flow's own schema; those of `settings` are checked by their model."""
        schema = flow.parameters.model_dump_for_openapi()
        known = list(schema["properties"])
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.55)
                hint = (f"did you mean `{near[0]}`? " if near else "") + f"known parameters: {', '.join(known)}"
                self._wrong((*place, "parameters", name), f"the flow has no parameter `{name}`", hint, at_key=True)
        others = {name: value for name, value in without_templates(values).items() if name != SETTINGS[-1]}
        for error in validate(others, schema, ignore_required=True):
            if error.path:
                self._wrong((*place, "parameters", *error.path), f"`{error.path[-1]}`: {redacted(error.message)[:200]}")

    def _settings(self, model: type[BaseModel], values: dict[str, Any], place: Location) -> None:
        """Settings that a schedule gives in place of its deployment's."""
        if SETTINGS[-1] not in values:
            return
        try:
            model.model_validate(values[SETTINGS[-1]])
        except ValidationError as error:
            at = Deployment(self._name, "", None, (*self._location, *place), "", {})
            self._found.findings += [self._file.of_pydantic(at, model, details) for details in error.errors()]

    def _schedule(self, schedule: dict[str, Any], place: Location) -> None:
        refused, wording = check_schedule(schedule)
        for refusal in refused:
            self._wrong((*place, refusal.key) if refusal.key else place, refusal.message, refusal.hint)
        if wording:
            self._found.checked.append(Checked(self._name, "schedule", wording))

    def _wrong(self, place: Location, message: str, hint: str = "", *, at_key: bool = False) -> None:
        location: Location = (*self._location, *place)
        finding = self._file.source.finding(location, f"{self._name}: {message}", hint, at_key=at_key)
        if "job_variables" in place:
            finding = replace(finding, source="")  # the line may hold a secret
        self._found.findings.append(finding)


def _given(value: object) -> str:
    return f", not {redacted(ascii(value))[:60]}" if value is not None and not isinstance(value, dict | list) else ""


def _hint(place: Location, value: object) -> str:
    if isinstance(value, list | dict):
        return ""
    if place[-1] == "anchor_date":
        return 'in quotes, year first: "2026-01-31T02:00:00+01:00"'
    return f'put it in quotes: "{value}"' if not isinstance(value, str) and place[-1] != "paused" else ""


def _no_flow(entrypoint: str, folder: Path) -> str | None:
    """Why there is no such flow, as far as this can be said without running its file."""
    path, colon, function = entrypoint.rpartition(":")
    if not colon:  # the dotted path of a module
        return "names no flow" if "/" in entrypoint or "." not in entrypoint else None
    if not function:
        return "names no flow"
    file = folder / path
    if not path.endswith(".py") and "/" not in path:
        return None  # package.module:flow
    try:
        tree = ast.parse(file.read_bytes())
    except OSError as error:
        return f"cannot be loaded: {str(error.strerror).lower()}: {path}"
    except (SyntaxError, ValueError) as error:
        return f"cannot be loaded: {path} is not valid Python: {error}"
    name = function.partition(".")[0]
    return None if name in set(_names(tree)) else f"cannot be loaded: there is no {name!r} in {path}"


def _names(tree: ast.Module) -> Iterator[str]:
    """Names that a file may define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name

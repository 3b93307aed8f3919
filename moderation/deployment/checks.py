"""What a file of deployments asks for, tried before anything is scheduled: settings, policies, buckets, Ray."""

import os
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from moderation.actions.actions_file import chosen, read_actions
from moderation.actions.targets import Actions
from moderation.cluster.nodes import describe_cluster, mismatches
from moderation.cluster.session import ray_session
from moderation.cluster.sizing import Machine, divide, plan_pool
from moderation.common.findings import Finding
from moderation.deployment.file import SETTINGS, Deployment, DeploymentFile
from moderation.errors import ModerationError, SettingsError, StorageError
from moderation.planning.inputs import check_inputs
from moderation.policy.schema import Policy
from moderation.policy.yaml_source import Location
from moderation.policy_files.loading import read_policy
from moderation.quality.limits_file import read_limits
from moderation.settings import RunSettings
from moderation.sources import open_sources
from moderation.storage import Store


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was tried and is well."""

    deployment: str
    what: str
    found: str
    """in words"""


@dataclass
class DeploymentChecks:
    """What was tried of a file of deployments."""

    checked: list[Checked] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def check_deployments(file: DeploymentFile, models: Mapping[str, type[BaseModel]]) -> DeploymentChecks:
    """Check everything that the deployments name. Never raises for a mistake in them: all are reported at once.

    Args:
        file: what was read of prefect.yaml.
        models: the settings of each flow, by its entrypoint.
    """
    checks = DeploymentChecks(findings=list(file.findings))
    with chdir(file.folder):  # a deployment's paths are relative to its file, as they are for its flow runs
        for deployment in file.deployments:
            _Check(file, deployment, checks).run(models)
    checks.findings = sorted(dict.fromkeys(checks.findings))
    return checks


class _Check:
    """The checks of one deployment."""

    def __init__(self, file: DeploymentFile, deployment: Deployment, checks: DeploymentChecks) -> None:
        self._file, self._deployment, self._checks = file, deployment, checks

    def run(self, models: Mapping[str, type[BaseModel]]) -> None:
        model = models.get(self._deployment.entrypoint)
        if model is None:
            self._well("flow", f"{self._deployment.entrypoint} is not part of this program: it was not checked")
            return
        try:
            settings = model.model_validate(self._deployment.settings)
        except ValidationError as error:
            self._checks.findings += [self._file.of_pydantic(self._deployment, model, details) for details in error.errors()]
            return
        self._well("settings", "valid")
        content = settings.model_dump()
        if isinstance(settings, RunSettings):
            self._run(settings)
        elif "actions" in content:
            self._act(content)
        else:
            self._backtest(content)

    def _run(self, settings: RunSettings) -> None:
        before = len(self._checks.findings)
        self._policy("policy", settings.policy)
        limits = read_limits(settings.quality)
        self._checks.findings += limits.findings
        self._try("sources", "sources", lambda: _listed(settings))
        self._try("output", "output", lambda: _written(settings.output))
        if len(self._checks.findings) == before:  # how they go together
            self._try("together", "output", lambda: _together(settings))
        self._try("Ray", "ray_address", lambda: _ray(settings))

    def _backtest(self, settings: dict[str, Any]) -> None:
        self._policy("policy", settings["policy"])
        if settings.get("against") != "published":
            self._policy("against", settings["against"])
        self._try("results", "results", lambda: Store(settings["results"]).uri)

    def _act(self, settings: dict[str, Any]) -> None:
        read = read_actions(settings["actions"])
        self._checks.findings += read.findings
        if read.actions is not None:
            self._try("targets", "targets", lambda: _receiving(read.actions, settings["targets"]))
        self._try("results", "results", lambda: Store(settings["results"]).uri)

    def _policy(self, key: str, path: str) -> None:
        try:
            read = read_policy(path)
        except ModerationError as error:
            self._wrong(key, str(error))
            return
        self._checks.findings += read.findings
        if read.policy is not None:
            self._well(key, _in_words(read.policy))

    def _try(self, what: str, key: str, attempt: Callable[[], str]) -> None:
        try:
            self._well(what, attempt())
        except StorageError as error:
            self._wrong(key, error.detail)
        except ModerationError as error:
            self._wrong(key, str(error))

    def _well(self, what: str, found: str) -> None:
        if found:
            self._checks.checked.append(Checked(self._deployment.name, what, found))

    def _wrong(self, key: str, message: str) -> None:
        location: Location = (*self._deployment.location, *SETTINGS, key)
        self._checks.findings.append(self._file.source.finding(location, message))


def _receiving(actions: Actions | None, names: tuple[str, ...]) -> str:
    targets = chosen(actions, names) if actions is not None else ()
    return ", ".join(f"{target.name} ({target.kind})" for target in targets)


def _in_words(policy: Policy) -> str:
    return f"{policy.policy} {policy.version}, {len(policy.active_rules)} rules, model {policy.model.label}"


def _listed(settings: RunSettings) -> str:
    sources = open_sources(settings.sources, settings.fetch_threads)
    return f"{', '.join(source.uri for source in sources)}: can be listed" if sources else "none: stored embeddings"


def _written(location: str) -> str:
    store = Store(location)
    store.check_writable()
    return f"{store.uri}: can be written, with conditional writes"


def _together(settings: RunSettings) -> str:
    check_inputs(settings)
    return ""


def _ray(settings: RunSettings) -> str:
    """How Ray's machines would be used. Raises `SettingsError` if they cannot be."""
    address = settings.ray_address or os.environ.get("RAY_ADDRESS")
    if address is None:
        if settings.device != "cuda":
            return "starts on the worker's machine with each run"
        with ray_session(None):
            return f"on this machine: {plan_pool(settings)}"
    facts = describe_cluster(address)
    fatal = [mismatch.text for mismatch in mismatches(facts) if mismatch.fatal]
    if fatal:
        raise SettingsError(f"the Ray cluster at {address} does not fit: {'; '.join(fatal)}: install the same everywhere")
    plan = divide([Machine(node.cpus, node.gpus) for node in facts.nodes], settings)
    nodes = f"{len(facts.nodes)} node{'' if len(facts.nodes) == 1 else 's'}"
    token = "" if all(node.asks_for_token for node in facts.nodes) else "; it asks for no token (docs/security.md)"
    return f"{address}: {nodes}, {facts.cpus:g} CPU cores, {facts.gpus:g} GPUs; {plan}{token}"

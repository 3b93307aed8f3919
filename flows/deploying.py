"""Deploys to Prefect's server, and checks what deployments need there."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings
from prefect.utilities.schema_tools import validate
from pydantic import BaseModel

from flows.act import ActSettings, act
from flows.automations import block_id
from flows.backtest import BacktestSettings, backtest
from flows.flow_failures import UNREACHABLE
from flows.moderate import moderate
from flows.refusals import as_prefect_reads, refusals
from moderation.deployment.checks import DeploymentChecks, check_deployments
from moderation.deployment.file import Deployment, DeploymentFile
from moderation.errors import RunError, SettingsError
from moderation.settings import RunSettings

MODELS: Mapping[str, type[BaseModel]] = {
    "flows/moderate.py:moderate": RunSettings,
    "flows/backtest.py:backtest": BacktestSettings,
    "flows/act.py:act": ActSettings,
}
"""The settings of each flow, by its entrypoint in prefect.yaml."""
FLOWS: Mapping[str, Flow[Any, Any]] = {
    "flows/moderate.py:moderate": moderate,
    "flows/backtest.py:backtest": backtest,
    "flows/act.py:act": act,
}
"""The flows, by their entrypoint."""
POOL_TYPE = "process"


def server_problems(deployments: Sequence[Deployment], notify: Sequence[str]) -> Iterator[str]:
    """What is missing or wrong on Prefect's server: the server itself, work pools, notification blocks. Changes nothing."""
    address = get_current_settings().api.url
    if not address:
        yield "Prefect: no server is configured: set PREFECT_API_URL (see `prefect config set`), such as http://127.0.0.1:4200/api"
        return
    try:
        with get_client(sync_client=True) as client:
            client.hello()
            for pool in dict.fromkeys(deployment.pool for deployment in deployments if deployment.pool):
                try:
                    template = client.read_work_pool(pool).base_job_template
                except ObjectNotFound:
                    yield f"Prefect: there is no work pool {pool!r}: prefect work-pool create {pool} --type {POOL_TYPE}"
                else:
                    using = [deployment for deployment in deployments if deployment.pool == pool]
                    yield from filter(None, (_misfit(deployment, template) for deployment in using))
            for name in notify:
                try:
                    block_id(client, name)
                except SettingsError as error:
                    yield str(error)
    except UNREACHABLE as error:
        if isinstance(error, PrefectHTTPStatusError) and error.response.status_code == httpx.codes.UNAUTHORIZED:
            yield f"Prefect: its server at {address} asks for a password: set PREFECT_API_AUTH_STRING, such as admin:PASSWORD"
            return
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        yield f"Prefect: its server at {address} gives an unexpected answer: {reason}"


def _misfit(deployment: Deployment, template: dict[str, Any]) -> str | None:
    """Which of a deployment's job variables its work pool refuses. Values are not shown: they may be secrets."""
    errors = validate(deployment.job_variables, template.get("variables") or {}, ignore_required=True)
    if not errors:
        return None
    place = ".".join(map(str, errors[0].absolute_path)) or "job_variables"
    rule = f"{errors[0].validator} should be {errors[0].validator_value!r}"[:100]
    return f"Prefect: work pool {deployment.pool!r} refuses the job variable `{place}` of {deployment.name!r}: its {rule}"


def check_file(file: DeploymentFile) -> DeploymentChecks:
    """Check the deployments without a server: what they name, and what Prefect would refuse.

    Never raises for a mistake in them: all are reported at once.
    """
    file, entries = as_prefect_reads(file)
    checks = check_deployments(file, MODELS)
    refused = refusals(file, entries, FLOWS, MODELS)
    places = {(finding.file, finding.line, finding.column) for finding in checks.findings}
    more = [finding for finding in refused.findings if (finding.file, finding.line, finding.column) not in places]
    checks.findings = sorted([*checks.findings, *more])
    order = [deployment.name for deployment in file.deployments]
    checks.checked = sorted([*checks.checked, *refused.checked], key=lambda checked: order.index(checked.deployment))
    return checks


def take_to_server(file: Path) -> None:
    """Run `prefect deploy --all` without prompts. Raises `RunError` with its output."""
    command = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file.name]
    done = subprocess.run(command, cwd=file.absolute().parent, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        message = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.strip())
        raise RunError(f"`prefect deploy --all` failed:\n{message[-2000:]}")

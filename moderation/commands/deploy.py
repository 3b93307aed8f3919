"""`moderate deploy`: check everything that the deployments name, deploy them to Prefect, and set up its automations."""

from pathlib import Path
from typing import Annotated

import typer

from moderation.errors import SettingsError


def deploy(
    check: Annotated[bool, typer.Option("--check", help="Only check; deploy and change nothing.")] = False,
    file: Annotated[Path, typer.Option("--file", "-f", help="The file of deployments.")] = Path("prefect.yaml"),
    offline: Annotated[bool, typer.Option("--offline", help="With --check: do not contact Prefect's server.")] = False,
) -> None:
    """Check the deployments in prefect.yaml, then deploy them to Prefect's server.

    Checks settings, policies, sources (can be listed), outputs (can be written, with conditional writes), the Ray cluster
    (token, versions, GPUs), work pools and notification blocks. All problems are reported at once, with exit code 2. Run it
    on the worker's machine, since the worker's folders, keys and network are what matters.

    Then: `prefect worker start --pool moderation`
    """
    from moderation.deployment.file import read_deployments

    if offline and not check:
        raise SettingsError("--offline needs --check: deploying needs Prefect's server")
    found = read_deployments(file)

    from flows.deploying import check_file, server_problems, take_to_server
    from moderation.console.deploy import show_checks, show_deployed

    checks = check_file(found)
    pools = [deployment.pool for deployment in found.deployments if deployment.pool]
    problems = [] if offline else list(server_problems(found.deployments, found.notify))
    show_checks(checks, problems)
    if checks.findings or problems:
        count = len(checks.findings) + len(problems)
        raise SettingsError(f"{count} finding{'' if count == 1 else 's'} in {file}: nothing was deployed")
    if check:
        typer.echo(f"{file} is ready: moderate deploy")
        return

    from flows.automations import set_up

    take_to_server(file)
    show_deployed([deployment.name for deployment in found.deployments], set_up(found.notify), pools)

"""What `moderate deploy` prints."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moderation.deployment.checks import DeploymentChecks

_OUT = Console()
_ERR = Console(stderr=True)
NARROWEST = 120
"""Characters of a line of the table, which a narrow terminal may wrap but never truncates."""


def show_checks(checks: DeploymentChecks, problems: Sequence[str]) -> None:
    """A table of the checks that passed, then all problems."""
    table = Table(box=None, pad_edge=False)
    for name in ("deployment", "checked", "result"):
        table.add_column(name, overflow="fold")
    for row in checks.checked:
        table.add_row(escape(row.deployment), row.what, escape(row.found))
    if checks.checked:
        Console(width=max(_OUT.width, NARROWEST), highlight=False).print(table)
    for finding in [*checks.findings, *problems]:
        _ERR.print(str(finding), markup=False, highlight=False, soft_wrap=True)


def show_deployed(names: Sequence[str], automations: Sequence[str], pools: Sequence[str]) -> None:
    """What was deployed, and the next step."""
    _line(f"deployed: {', '.join(names)}")
    _line(f"automations: {', '.join(automations)}")
    for pool in dict.fromkeys(pools):
        _line(f"next, on the machine where runs should start: prefect worker start --pool {pool}")


def _line(text: str) -> None:
    _OUT.print(text, markup=False, highlight=False, soft_wrap=True)

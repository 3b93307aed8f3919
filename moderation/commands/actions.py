"""The `moderate actions` commands: check, run, status, retry, schema."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moderation.errors import OutputError, SettingsError, StorageError

if TYPE_CHECKING:
    from moderation.actions.acting import Acted, Settings
    from moderation.actions.targets import Target
    from moderation.storage import Store

actions_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Act on decisions: send them to webhooks, S3 object tags or files, once for each image and action.",
)

DOWN = 3
"""Exit code if a target did not accept deliveries."""

_File = Annotated[Path, typer.Option("--actions", "-a", help="The file of targets.")]
_DEFAULT = Path("actions.yaml")
_Results = Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)]
_Names = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", help="Only this target; can be given several times.", show_default=False),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@actions_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The file of targets.")] = _DEFAULT,
    output: Annotated[Literal["text", "json", "github"], typer.Option("--format", help="github: annotations in CI.")] = "text",
) -> None:
    """Report every mistake in FILE, with its line and column, and whether the secrets that it names are available here.

    Sends nothing. Exit code 1 if there are mistakes; missing secrets are warnings, since another machine may have them.

    Example: `moderate actions check actions.yaml`
    """
    from moderation.actions.actions_file import read_actions
    from moderation.common.findings import as_github
    from moderation.common.findings import as_json as findings_json
    from moderation.console.actions import show_checked

    read = read_actions(file)
    findings = [*read.findings, *read.warnings]
    if output == "json":
        typer.echo(findings_json(findings))
    elif output == "github":
        typer.echo(as_github(findings), nl=bool(findings))
    else:
        show_checked(str(file), read, list(_missing(read.actions.targets)) if read.actions is not None else [])
    if read.actions is None:
        raise typer.Exit(1)


@actions_app.command()
def run(
    results: _Results,
    actions: _File = _DEFAULT,
    target: _Names = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Let the targets go live: send now, and in every later run. Needed once for each target."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be sent.")] = False,
    as_json: _Json = False,
) -> None:
    """Send to each target the effective decisions that it has not received yet.

    The first use of a target is a dry run: it shows what would be sent and sends nothing, until you let the target go live
    with `--live`. Later runs then send without it. What was not accepted is sent again by the next run; what was permanently
    refused waits for `moderate actions retry`.

    Exit codes: 0; 1 and 2 for errors; 3 if a target did not accept deliveries.

    Example: `moderate actions run --results results --actions actions.yaml --live`
    """
    from moderation.actions.acting import act_on, is_live, rehearse
    from moderation.common.progress import StageLines, listening
    from moderation.console.actions import print_acted, show_acted

    if live and dry_run:
        raise SettingsError("give --live or --dry-run, not both")
    output, targets = _opened(results, actions, target)
    acted: list[Acted] = []
    with listening(StageLines(lambda line: typer.echo(line, err=True))):
        for one in targets:
            if dry_run or not (live or is_live(output, one.name)):
                acted.append(rehearse(output, one))
            else:
                acted.append(act_on(output, one, _settings(), live=live))
    if as_json:
        print_acted(acted)
    else:
        show_acted(acted, asked=dry_run)
    _exit(acted)


@actions_app.command()
def status(results: _Results, actions: _File = _DEFAULT, target: _Names = None, as_json: _Json = False) -> None:
    """Show for each target what it received, what waits, and what it refused and why.

    Example: `moderate actions status --results results`
    """
    from moderation.actions.standing import standing
    from moderation.console.actions import print_standings, show_standings

    output, targets = _opened(results, actions, target)
    standings = [standing(output, one) for one in targets]
    (print_standings if as_json else show_standings)(standings)


@actions_app.command()
def retry(results: _Results, actions: _File = _DEFAULT, target: _Names = None, as_json: _Json = False) -> None:
    """Send again what targets permanently refused. If an image has a newer action by now, only that one counts.

    Exit code 3 if a target did not accept deliveries.

    Example: `moderate actions retry --results results --target trust-api`
    """
    from moderation.actions.acting import retry_refused
    from moderation.common.progress import StageLines, listening
    from moderation.console.actions import print_acted, show_acted

    output, targets = _opened(results, actions, target)
    settings = _settings()
    with listening(StageLines(lambda line: typer.echo(line, err=True))):
        acted = [retry_refused(output, one, settings) for one in targets]
    if as_json:
        print_acted(acted)
    else:
        show_acted(acted, asked=False)
    _exit(acted)


@actions_app.command()
def schema() -> None:
    """Print the JSON Schema of `actions.yaml`, for completion and checks in editors."""
    from moderation.actions.actions_file import schema as actions_schema

    typer.echo(json.dumps(actions_schema(), indent=2))


def _opened(results: str, file: Path, names: list[str] | None) -> "tuple[Store, tuple[Target, ...]]":
    from moderation.actions.actions_file import chosen, load_actions
    from moderation.storage import Store

    targets = chosen(load_actions(file), tuple(names or ()))
    try:
        return Store(results), targets
    except StorageError as error:
        raise OutputError(f"cannot read the results at {results!r}: {error.detail}") from None


def _settings() -> "Settings":
    from moderation.actions.acting import Settings
    from moderation.actions.secret_values import from_environment
    from moderation.actions.targets import Secret

    def resolve(secret: Secret) -> str:
        if secret.env is not None:
            return from_environment(secret)
        from flows.secret_blocks import from_block

        return from_block(secret)

    return Settings(resolve)


def _missing(targets: "Iterable[Target]") -> Iterable[str]:
    """What is said of secrets in the environment that are not there. Blocks are not looked up: that needs Prefect's server."""
    from moderation.actions.secret_values import SecretValues, from_environment
    from moderation.actions.signing import key_bytes
    from moderation.actions.targets import Secret

    def resolve(secret: Secret) -> str:
        return "https://a-block-of-prefect.example.com/0123456789" if secret.env is None else from_environment(secret)

    for target in targets:
        try:
            for key in SecretValues(target, resolve).keys:
                key_bytes(key)
        except SettingsError as error:
            yield str(error)


def _exit(acted: "Iterable[Acted]") -> None:
    if any(one.stopped for one in acted):
        raise typer.Exit(DOWN)

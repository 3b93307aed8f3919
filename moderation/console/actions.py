"""What `moderate actions` prints."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich.console import Console

from moderation.actions.acting import Acted
from moderation.actions.actions_file import ReadActions
from moderation.actions.changes import described
from moderation.actions.standing import Standing
from moderation.common.safe_text import shortened, visible


def show_checked(name: str, read: ReadActions, missing: Sequence[str]) -> None:
    """Findings, secrets that are missing, and a last line."""
    console = _console()
    for finding in [*read.findings, *read.warnings]:
        console.print(str(finding))
    for line in missing:
        console.print(f"warning: {line}")
    if read.actions is None:
        console.print(f"{visible(name)}: {_counted(len(read.findings), 'error')}")
        return
    for target in read.actions.targets:
        console.print(f"{target.name}: {target.kind}, {', '.join(target.actions)}")
    console.print(f"{visible(name)}: {_counted(len(read.actions.targets), 'target')}")


def show_acted(acted: Sequence[Acted], asked: bool) -> None:
    """A paragraph for each target. `asked`: the user wanted a dry run."""
    console = _console()
    for one in acted:
        if one.busy:
            console.print(f"{one.target}: nothing sent: {one.busy}; the next run sends what is new")
        elif one.live:
            console.print(f"{one.target}: {_done(one)}")
        else:
            console.print(f"{one.target}: dry run: would send {described(one.planned)}; nothing was sent")
            for action, uri in one.examples:
                console.print(f"  {action}  {visible(shortened(uri))}")
        if one.stopped:
            console.print(f"  given up for now: {visible(one.stopped)}; the next run resumes")
        if one.parked:
            console.print("  why they were refused: moderate actions status; to send them again: moderate actions retry")
    rehearsed = [one.target for one in acted if not one.live and not one.busy]
    if rehearsed and not asked:
        targets = " ".join(f"--target {name}" for name in rehearsed)
        console.print(f"Not live yet: {', '.join(rehearsed)}. To send now, and in every later run: add --live {targets}")


def show_standings(standings: Sequence[Standing]) -> None:
    """A paragraph for each target."""
    console = _console()
    for one in standings:
        live = "live" if one.live else "not live yet: runs only show what they would send"
        console.print(f"{one.target} ({one.kind}): {live}")
        console.print(
            f"  delivered {one.delivered:,}, waiting {one.waiting:,}, refused {sum(r.deliveries for r in one.refused):,}"
        )
        if one.at_work:
            console.print(f"  at work: {one.at_work}")
        if one.failed:
            console.print(f"  {one.failed:,} of those waiting failed, most recently: {visible(one.newest_failure)}")
        for refused in one.refused:
            console.print(f"  refused {refused.deliveries:,}: {visible(refused.reason)}")
            for uri in refused.uris:
                console.print(f"    {visible(shortened(uri))}")


def print_acted(acted: Sequence[Acted]) -> None:
    """JSON."""
    typer.echo(json.dumps([asdict(one) for one in acted], indent=1))


def print_standings(standings: Sequence[Standing]) -> None:
    """JSON."""
    typer.echo(json.dumps([asdict(one) for one in standings], indent=1))


def _done(one: Acted) -> str:
    parts = [f"delivered {one.delivered:,}"]
    if one.parked:
        parts.append(f"refused {one.parked:,}")
    if one.waiting:
        parts.append(f"waiting {one.waiting:,}")
    return ", ".join(parts) + (f" ({described(one.planned)} new)" if one.planned else " (nothing new)")


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

"""What `moderate policy backtest` shows: progress, tables for people, JSON for programs."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from moderation.common import progress as run_progress
from moderation.common.safe_text import visible
from moderation.console.terminal import print_whole
from moderation.html.text import NONE, number, percent
from moderation.policy.decision import ACTIONS
from moderation.policy.schema import Policy
from moderation.studies.backtest.backtest_result import OTHER, Backtest, BeforeAfter, Changed
from moderation.studies.backtest.labelled import Labelled, rows
from moderation.studies.backtest.shown_images import distance

FOLDERS, DAYS, IMAGES = 12, 14, 10
"""Lines of the tables by folder and by day, and of the images nearest to thresholds."""
_NAMES = tuple(action.value for action in ACTIONS)
_OUT = Console(highlight=False)
_ERR = Console(stderr=True, highlight=False)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the command with one line and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        _ERR.print("stopped before everything was written")
        sys.exit(130)


@contextlib.contextmanager
def progress_shown() -> Iterator[None]:
    """Show how many decisions have been read, on a terminal."""
    if not _ERR.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_ERR, transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(at: run_progress.Progress) -> None:
            message = f"{at.stage}: {number(at.done)} of {number(at.planned)} decisions"
            bar.update(task, description=message, completed=at.done, total=at.planned)

        with run_progress.listening(show):
            yield


def show(found: Backtest, since: str | None) -> None:
    """What was compared, and what changes: in all, by rule, per day, by folder; and the images nearest to thresholds."""
    for name, value in _facts(found, since):
        _OUT.print(f"[dim]{name:<12}[/] {escape(visible(value))}", soft_wrap=True)
    _show_transitions(found)
    _show_per_day(found)
    _show_rules(found)
    if found.labelled is not None:
        _show_labelled(found.labelled)
    _show_groups("By folder, those with the most changes first", "folder", _most_changed(found.prefixes), len(found.prefixes))
    last = dict(list(found.days.items())[-DAYS:])
    _show_groups("By the day on which images were last modified (UTC)", "day", last, len(found.days))
    _show_nearest(found)
    rate = number(round(found.images / found.seconds)) if found.seconds else NONE
    _OUT.print(f"[dim]{number(found.images)} images in {found.seconds:.1f} s, {rate} images/s[/]")


def print_json(found: Backtest, policy: Policy, changed: Path, page: Path, over: Sequence[str]) -> None:
    """One object. ASCII only, so that no name can harm the terminal."""
    days = found.days_covered
    content = {
        "policy": {"policy": policy.policy, "version": policy.version, "hash": policy.hash},
        "against": found.against,
        "old": found.old,
        "model": asdict(found.archive),
        "other_models": [asdict(one) for one in found.left_out],
        "runs_left_out": found.runs_left_out,
        "images_left_out": found.images_left_out,
        "where": found.where,
        "not_chosen": found.not_chosen,
        "images": found.images,
        "scored": found.scored,
        "errors": found.errors,
        "changed": found.total.changed,
        "new_blocks": found.new_blocks,
        "new_reviews": found.new_reviews,
        "transitions": [{"before": a, "after": b, "images": count} for (a, b), count in found.transitions.items()],
        "per_day": {
            "days": days,
            "first": found.first_day,
            "last": found.last_day,
            **{side: _rates(getattr(found.total, side), days) for side in ("before", "after")},
        },
        "rules": [{"rule": name, **asdict(rule)} for name, rule in found.rules.items()],
        "folders": [{"folder": name, **asdict(counts)} for name, counts in found.prefixes.items()],
        "days": [{"day": name, **asdict(counts)} for name, counts in found.days.items()],
        "labelled": None if found.labelled is None else asdict(found.labelled),
        "examples": [asdict(image) for image in found.examples],
        "over_budget": list(over),
        "files": {"page": str(page), "changed": str(changed)},
        "seconds": round(found.seconds, 3),
    }
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


def show_written(paths: Sequence[Path], *, replaced: bool) -> None:
    """The paths of the files; on stderr, so that `--json` stays JSON."""
    for path in paths:
        message = "replaced an earlier backtest's file" if replaced else "written"
        _ERR.print(f"{message}: {visible(str(path))}", markup=False, soft_wrap=True)


def _facts(found: Backtest, since: str | None) -> Iterator[tuple[str, str]]:
    yield "new", found.new
    yield "against", f"{found.against}: {found.old}" if found.old != found.against else found.old
    runs = f"{found.archive.runs} run{'s' if found.archive.runs != 1 else ''}"
    yield "model", f"{found.archive.model} {found.archive.fingerprint}, {runs}"
    errors = f", {number(found.errors)} that could not be scored (decided by `unreadable`)" if found.errors else ""
    yield "images", f"{number(found.images)}: {number(found.scored)} re-decided from embeddings{errors}"
    yield "modified", f"{found.first_day} to {found.last_day} (UTC), {_days(found.days_covered)}"
    for other in found.left_out:
        yield "not covered", f"images that another model scored: {other}"
    if found.runs_left_out:
        were = "run that started" if found.runs_left_out == 1 else "runs that started"
        before = f"{number(found.runs_left_out)} {were} before --since {since or ''}"
        yield "not covered", f"{before}, with {number(found.images_left_out)} scored images"
    if found.where is not None:
        yield "not covered", f"{number(found.not_chosen)} images that do not meet the condition: {found.where}"


def _show_transitions(found: Backtest) -> None:
    table = Table(title="Images by action before and after", title_justify="left")
    table.add_column("before")
    for name in _NAMES:
        table.add_column(f"{name} after", justify="right", no_wrap=True)
    for before in _NAMES:
        cells = []
        for after in _NAMES:
            count = found.transitions[before, after]
            style = "dim" if before == after or not count else "yellow" if after != "block" else "red"
            cells.append(f"[{style}]{number(count)}[/]")
        table.add_row(before, *cells)
    _OUT.print(table)
    changed = found.total.changed
    what = "image gets" if changed == 1 else "images get"
    _OUT.print(
        f"[bold]{number(changed)} {what} a different decision[/] ({percent(changed, found.images)}); "
        f"{number(found.new_blocks)} newly blocked, {number(found.new_reviews)} newly to review"
    )


def _show_per_day(found: Backtest) -> None:
    days = found.days_covered
    table = Table(title="Expected per day", title_justify="left")
    for name in ("", "before", "after"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for action, name in (("review", "reviews"), ("block", "blocks")):
        table.add_row(name, *(_rate(getattr(side, action), days) for side in (found.total.before, found.total.after)))
    _OUT.print(table)
    before, after = found.work
    _OUT.print(f"to review in all: {number(before.images)} ({before.parts}) → {number(after.images)} ({after.parts})")
    _OUT.print(f"[dim]images to review or block, divided by the {_days(days)} from {found.first_day} to {found.last_day}[/]")


def _show_rules(found: Backtest) -> None:
    table = Table(title="Images flagged by rule", title_justify="left")
    table.add_column("rule", overflow="fold")
    for name in ("before", "after", "gained", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    shadow = any(rule.would for rule in found.rules.values())
    if shadow:
        table.add_column("would flag", justify="right", no_wrap=True)
    for name, rule in found.rules.items():
        style = "" if rule.gained or rule.lost or rule.would else "dim"
        cells = [*map(number, (rule.before, rule.after, rule.gained, rule.lost)), number(rule.would) if rule.would else ""]
        table.add_row(escape(visible(name)), *cells[: 5 if shadow else 4], style=style)
    _OUT.print(table)
    for name, rule in found.rules.items():
        if rule.would:
            _OUT.print(
                f"{escape(visible(name))} is a shadow rule and has no effect; if live, it would flag {number(rule.would)}:"
            )
            for image in rule.would_flag[:IMAGES]:
                _OUT.print(f"  {image.score:.3f} would {image.after}  {_name(image)}", soft_wrap=True)


def _show_labelled(labelled: Labelled) -> None:
    table = Table(title=f"By the labels in {escape(visible(labelled.name))}", title_justify="left")
    for name in ("rule", "true, false", "precision before", "after", "recall before", "after"):
        table.add_column(name)
    for name, counts, cells in rows(labelled):
        table.add_row(escape(visible(name)), counts, *cells)
    if labelled.rules:
        print_whole(table)
    for remark in labelled.remarks:
        _OUT.print(f"! {escape(visible(remark))}", soft_wrap=True)


def _show_groups(title: str, name: str, groups: Mapping[str, BeforeAfter], all_groups: int) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column(name, no_wrap=True)
    for column in ("images", "changed"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("review", "block"):
        table.add_column(f"{column} before → after", justify="right")
    for group, counts in groups.items():
        pairs = (f"{number(getattr(counts.before, a))} → {number(getattr(counts.after, a))}" for a in ("review", "block"))
        table.add_row(escape(visible(group)), number(counts.before.images), number(counts.changed), *pairs)
    print_whole(table)
    if all_groups > len(groups):
        _OUT.print(f"[dim]… and {number(all_groups - len(groups))} more {name}s: see the page[/]")


def _show_nearest(found: Backtest) -> None:
    images = [image for rule in found.rules.values() for image in rule.nearest]
    if not images:
        return
    table = Table(title="Nearest to the new thresholds", title_justify="left")
    for name in ("score", "threshold"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("rule", overflow="fold", min_width=8)
    table.add_column("decided", no_wrap=True)
    table.add_column("image", no_wrap=True)
    for image in sorted(images, key=lambda image: (distance(image), image.uri))[:IMAGES]:
        table.add_row(f"{image.score:.5f}", f"{image.threshold:g}", escape(image.rule or ""), _decided(image), _name(image))
    print_whole(table)


def _most_changed(groups: Mapping[str, BeforeAfter]) -> dict[str, BeforeAfter]:
    ordered = sorted(groups.items(), key=lambda item: (item[0] == OTHER, -item[1].changed, -item[1].before.images))
    return dict(ordered[:FOLDERS])


def _decided(image: Changed) -> str:
    return image.after if image.before == image.after else f"{image.before} → {image.after}"


def _name(image: Changed) -> str:
    return escape(visible(image.uri)) + (f" frame {image.frame}" if image.frame else "")


def _days(count: int) -> str:
    return f"{number(count)} day{'' if count == 1 else 's'}"


def _rate(count: int, days: int) -> str:
    value = count / days
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 or not value else f"{value:.2g}"


def _rates(actions: object, days: int) -> dict[str, float]:
    return {action: getattr(actions, action) / days for action in ("review", "block")}

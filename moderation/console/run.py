"""What the terminal shows: a progress bar while a run works, tables when it is done."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from moderation.common import progress as run_progress
from moderation.common.safe_text import visible
from moderation.console.policy import show_changes
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.demo.accuracy import measure
from moderation.errors import OutputError, PolicyError
from moderation.html.text import command
from moderation.pipeline import Outcome
from moderation.policy.comparison import compare, identity
from moderation.policy.schema import Policy
from moderation.report.run_tables import count_rows, rule_rows
from moderation.results.manifest import Manifest
from moderation.results.read_run import read_decisions
from moderation.results.run_differences import differences
from moderation.results.stored_policy import stored_policy
from moderation.settings import RunSettings
from moderation.storage import Store

SHOWN = 12
"""Maximum number of images to name."""
_OUT = Console()
_ERR = Console(stderr=True)


@contextlib.contextmanager
def progress_bar() -> Iterator[None]:
    """Show the progress of the run in this context; without a terminal, as occasional lines."""
    if not _ERR.is_terminal:
        with run_progress.listening(run_progress.StageLines(_error_line)):
            yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_ERR, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        pace = run_progress.Pace()

        def show(progress: run_progress.Progress) -> None:
            if progress.stage != "scoring":
                bar.update(task, description=progress.stage)
                return
            bar.update(task, description=f"scoring {pace.describe(progress)}", completed=progress.done, total=progress.planned)

        with run_progress.listening(show):
            yield


def show_run(outcome: Outcome, policy: Policy) -> None:
    """Counts, rules, and the paths of all files."""
    manifest = outcome.manifest
    _OUT.print(f"Run [bold]{escape(manifest.run_id)}[/]", highlight=False)
    counts = Table(show_header=False)
    counts.add_column()
    counts.add_column(justify="right")
    for name, value in count_rows(manifest):
        counts.add_row(name, value)
    _OUT.print(counts)

    _OUT.print(f"Policy [bold]{policy.policy}[/] {escape(policy.version)} by rule", highlight=False)
    rules = Table()
    for column in ("rule", "category", "severity", "mode"):
        rules.add_column(column)
    for column in ("review", "block", "flagged"):
        rules.add_column(column, justify="right")
    for row in rule_rows(manifest, policy):
        rules.add_row(*(escape("-" if value is None else str(value)) for value in row.values()))
    _OUT.print(rules)

    timings = manifest.timings
    _line(f"speed     {manifest.speed}; bottleneck: {timings.bottleneck}; {outcome.plan}")
    _line(f"model     {manifest.model} ({manifest.model_fingerprint}) on {manifest.device}")
    _line(f"checks    {sum(c.passed for c in manifest.checks)} of {len(manifest.checks)} passed")
    output = outcome.output.removeprefix("file://")
    _line(f"decisions {output}/decisions")
    _line(f"manifest  {output}/runs/{manifest.run_id}.json")
    _line(f"report    {outcome.report.removeprefix('file://') if outcome.report else 'could not be written'}")


def show_demo(outcome: Outcome, settings: RunSettings) -> None:
    """How the demo compares with its labels, and what to try next."""
    accuracy = measure(read_decisions(Store(outcome.output), outcome.manifest), Store(settings.sources[0]).uri)
    _OUT.print("Against the labels of the demo images")
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("precision", f"{accuracy.precision:.3f}")
    table.add_row("recall", f"{accuracy.recall:.3f}")
    table.add_row("correctly flagged", str(accuracy.true_positives))
    table.add_row("wrongly flagged", str(accuracy.false_positives))
    table.add_row("missed", str(accuracy.false_negatives))
    table.add_row("correctly not flagged", str(accuracy.true_negatives))
    table.add_row("broken images detected", f"{accuracy.errors_found} of {accuracy.errors_expected}")
    _OUT.print(table)
    _line("")
    _line(f"Try next: edit {_shown(str(POLICY_FILE))}, then run")
    images, policy = _shown(str(IMAGES_DIR)), _shown(settings.policy)
    _line(f"  {command('moderate', 'run', images, '--policy', policy, '--output', settings.output)}")


def show_differences(outcome: Outcome, earlier: Manifest | None) -> None:
    """How decisions differ from an earlier run over the same images, if the policy changed."""
    manifest = outcome.manifest
    if earlier is None or earlier.policy_hash == manifest.policy_hash:
        return
    _OUT.print(f"[bold]Since run {escape(earlier.run_id)}[/]")
    store = Store(outcome.output)
    with contextlib.suppress(PolicyError, OutputError):  # written by an earlier version of the language
        old, new = stored_policy(store, earlier), stored_policy(store, manifest)
        changes = compare(old, new)
        show_changes(old, new, changes, identity(old, new, changes))
    found = list(differences(read_decisions(store, earlier), read_decisions(store, manifest)))
    _line(f"{len(found)} image{' gets' if len(found) == 1 else 's get'} a different decision")
    for difference in found[:SHOWN]:
        name = "/".join(visible(difference.uri).rsplit("/", 2)[-2:])
        _line(f"  {difference.before} -> {difference.after}  {name}  ({difference.rule})")
    if len(found) > SHOWN:
        _line(f"  ... and {len(found) - SHOWN} more")
    _line("")


def _shown(path: str) -> str:
    """A path relative to the current folder, if it is inside."""
    here = str(Store(".").uri).removeprefix("file://") + "/"
    return path.removeprefix(here)


def _error_line(text: str) -> None:
    _ERR.print(text, markup=False, highlight=False, soft_wrap=True)


def _line(text: str) -> None:
    _OUT.print(text, markup=False, highlight=False, soft_wrap=True)

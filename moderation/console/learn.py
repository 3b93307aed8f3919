"""What `moderate policy learn` shows in the terminal. Names from files are made visible and escaped."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.studies.learning import learn_text
from moderation.studies.learning.learn import Lesson

_OUT = Console(highlight=False)
_ERR = Console(stderr=True, highlight=False)
_STYLES = {"better": "bold green", "worse": "bold red", "unclear": "bold yellow"}
_SHOWN = 10


def show_lesson(lesson: Lesson) -> None:
    """What was learned, how good it is, and what would make it better."""
    remarks = [f"{lesson.labels.place(remark.lines)}: {remark}" for remark in lesson.labels.remarks]
    for text in remarks[:_SHOWN]:
        _line(f"! {text}", "yellow")
    if len(remarks) > _SHOWN:
        _line(f"! ... and {len(remarks) - _SHOWN:,} more lines", "yellow")
    _line(lesson.rule.id, "bold")
    _line(learn_text.summary(lesson))
    _line(learn_text.verdict(lesson), _STYLES[lesson.comparison.verdict])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("on labels that it did not see", "head", "rule now"):
        table.add_column(column, overflow="fold")
    for cells in learn_text.precision_lines(lesson):
        table.add_row(*cells)
    _OUT.print(table)
    _line(learn_text.calibration(lesson))
    for one in lesson.suggestions:
        _line(learn_text.suggestion(one))
    _line(learn_text.growth(lesson))
    for remark in lesson.remarks:
        _line(f"- {remark}")


def show_written(paths: Sequence[Path]) -> None:
    """The paths of written files; on stderr, so that `--json` stays JSON."""
    for path in paths:
        _ERR.print(f"written: {visible(str(path))}", markup=False, soft_wrap=True)


def _line(text: str, style: str = "") -> None:
    _OUT.print(visible(text), markup=False, soft_wrap=True, style=style)

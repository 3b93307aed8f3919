"""What `moderate queues` prints."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.console.terminal import print_whole
from moderation.policy.yaml_models import ReadFile
from moderation.queues.backlog import Backlog
from moderation.queues.open_queue import QueuedImage
from moderation.queues.queue_schema import Queue, QueueFile
from moderation.reviews.review import Selection

_NARROWEST = 120
"""Characters of a line of the table of queues, which a narrow terminal may wrap."""
_AUDITS = (Selection.AUDIT_ALLOWED, Selection.AUDIT_BLOCKED)


def show_checked(name: str, read: ReadFile[QueueFile]) -> None:
    """Findings, and a last line that counts them."""
    for finding in read.findings:
        typer.echo(str(finding))
    count = len(read.findings)
    found = f"{count:,} error{'s' * (count != 1)}"
    if read.content is not None:
        queues = len(read.content.queues)
        found = f"{queues:,} queue{'s' * (queues != 1)}"
    typer.echo(f"{visible(name)}: {found}")


def show_queues(file: QueueFile, *, as_json: bool) -> None:
    """What the file says."""
    if as_json:
        typer.echo(json.dumps(file.model_dump(mode="json"), indent=2))
        return
    table = _table("queue", folding=("where",))
    for name in ("order", "audit", "double", "golden", "reasons", "SLA"):
        table.add_column(name, no_wrap=name in ("order", "double", "SLA"), overflow="fold")
    for queue in file.queues:
        audit = f"allowed {_percent(queue.audit.allowed)}, blocked {_percent(queue.audit.blocked)}"
        audit += f" where {queue.audit.where}" if queue.audit.where else ""
        table.add_row(
            queue.name,
            visible(queue.where),
            queue.order.value,
            visible(audit),
            _percent(queue.double_review),
            visible(f"{queue.golden.path}, {_percent(queue.golden.share)}") if queue.golden else "-",
            visible(", ".join(queue.reasons)) + (" (required)" if queue.reason_required else "") or "-",
            f"{queue.sla_hours:g} h" if queue.sla_hours else "-",
        )
    Console(highlight=False, width=max(_NARROWEST, Console().width)).print(table)


def show_backlogs(backlogs: Sequence[Backlog], left_out: int, *, as_json: bool) -> None:
    """What waits in each queue. `left_out`: images in review that no queue asks about."""
    if as_json:
        content = {"queues": [backlog_json(one) for one in backlogs], "in_no_queue": left_out}
        typer.echo(json.dumps(content, indent=2))
        return
    print_whole(backlog_table(backlogs))
    if left_out:
        typer.echo(f"! {left_out_text(left_out)}")


def left_out_text(images: int) -> str:
    """That nobody will see some images, and what to do."""
    what = "1 image in review is" if images == 1 else f"{images:,} images in review are"
    return f"{what} in no queue: widen `where`, or add a queue"


def backlog_table(backlogs: Sequence[Backlog]) -> Table:
    """A row per queue."""
    table = _table("queue", right=("waiting", "decisions", "audits", "second reviews", "oldest", "median", "late"))
    for one in backlogs:
        table.add_row(
            one.queue,
            f"{one.images:,}",
            f"{one.waiting.get(Selection.DECISION, 0):,}",
            f"{sum(one.waiting.get(why, 0) for why in _AUDITS):,}",
            f"{one.waiting.get(Selection.DOUBLE, 0):,}",
            _age(one.oldest),
            _age(one.median),
            f"{one.late:,} over {one.sla_hours:g} h" if one.sla_hours else "-",
        )
    return table


def backlog_json(one: Backlog) -> dict[str, object]:
    """The same for machines."""
    return {**asdict(one), "waiting": {why.value: count for why, count in one.waiting.items()}, "images": one.images}


def show_page(queue: Queue, items: Sequence[QueuedImage], waiting: int, *, as_json: bool) -> None:
    """Images of a queue, in its order."""
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in items], indent=2, default=str))
        return
    if not items:
        typer.echo(f"nothing waits in the queue {queue.name}" if not waiting else "no more images: see a smaller --after")
        return
    table = _table("why", "rules", "uri", right=("#", "score", "threshold"))
    for item in items:
        why = item.why.value + (f" (1 of {item.weight:,.0f})" if item.weight else "")
        rules = ", ".join(item.rules) or item.error_code or "-"
        table.add_row(
            visible(why),
            visible(rules),
            visible(item.uri),
            str(item.position),
            _score(item.top_score),
            _score(item.top_threshold),
        )
    print_whole(table)
    typer.echo(f"{len(items):,} of {waiting:,} images that wait in the queue {queue.name}")


def _table(*columns: str, folding: Sequence[str] = (), right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True)
    for name in folding:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _age(hours: float | None) -> str:
    if hours is None:
        return "-"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"

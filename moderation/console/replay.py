"""What `moderate runs replay` prints."""

import json
from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.console.terminal import print_whole
from moderation.studies.replay.replay_result import Difference, Replay

ROUNDING = 1e-5
"""Scores that differ by no more than this may come from rounding on another kind of processor, or in another library."""
_LONGEST = 200

_PROMPTS = {
    "stored": "prompt embeddings as stored by the run",
    "computed": "prompt embeddings computed again, since the run stored none: the last digits of scores may differ",
    "none": "nothing could be recomputed",
}


class Shown:
    """Prints replays as they finish; as JSON all at once: one object, or an array of several."""

    def __init__(self, *, as_json: bool, several: bool) -> None:
        self._as_json, self._several = as_json, several
        self._found: list[dict[str, Any]] = []
        self._runs = self._identical = 0
        self._out = Console(highlight=False)

    @property
    def identical(self) -> bool:
        """Whether everything so far matches what is stored."""
        return self._identical == self._runs

    def take(self, found: Replay) -> None:
        """One run."""
        self._runs += 1
        self._identical += found.identical
        if self._as_json:
            self._found.append({"identical": found.identical, **asdict(found)})
        elif self._several and found.identical:
            self._line(f"[green]identical[/]  {escape(found.run_id)}  {_size(found)}")
        else:
            self._replay(found)

    def end(self) -> None:
        """The rest."""
        if self._as_json:
            content = self._found if self._several else self._found[0]
            typer.echo(json.dumps(content, indent=2))  # ASCII only, so that no name can harm the terminal
        elif self._several:
            self._line(f"{self._identical:,} of {self._runs:,} runs are identical")

    def _replay(self, found: Replay) -> None:
        self._line(f"[bold]{_safe(found.run_id)}[/] ({found.state}): {_size(found)}")
        if found.policy:
            self._line(f"policy {_safe(found.policy)}; model {_safe(found.model)}")
        self._line(_PROMPTS[found.prompts])
        for problem in found.problems:
            self._line(f"[red]wrong[/]  {_safe(problem)}")
        if found.identical:
            self._line(
                "[green]identical[/]: recomputing from the stored embeddings and policy gives every decision and "
                "score, bit for bit"
            )
        elif not found.differences and found.shards_replayed:
            self._line("every decision and score that could be recomputed is identical")
        if found.differences:
            self._differences(found)

    def _differences(self, found: Replay) -> None:
        images = f"{found.differing_images:,} image{'s' if found.differing_images != 1 else ''}"
        values = f"{found.differences:,} value{'s differ' if found.differences != 1 else ' differs'}"
        columns = ", ".join(f"{name} {count:,}" for name, count in found.by_column.items())
        self._line(f"[red]{values}[/] in {images}: {columns}")
        if found.largest is not None:
            message = f"scores differ by at most {found.largest:.2g}"
            if found.largest <= ROUNDING:
                message += ", as happens when another processor or numpy version rounds differently"
            self._line(message)
        table = Table(box=None, pad_edge=False)
        table.add_column("image", no_wrap=True)
        for name in ("column", "stored", "recomputed"):
            table.add_column(name, overflow="fold")
        for one in found.shown:
            table.add_row(escape(visible(one.uri)), _safe(_column(one)), _safe(one.stored), _safe(one.recomputed))
        print_whole(table)
        if found.differences > len(found.shown):
            self._line(f"… and {found.differences - len(found.shown):,} more")

    def _line(self, text: str) -> None:
        self._out.print(text, soft_wrap=True)


def _size(found: Replay) -> str:
    images = f"{found.scored:,} images scored, {found.errors:,} not, in {found.shards_replayed:,}"
    of = f" of {found.shards:,}" if found.shards_replayed != found.shards else ""
    return f"{images}{of} shard{'s' if found.shards != 1 else ''}, {found.seconds:.1f} s"


def _column(one: Difference) -> str:
    return f"{one.table}.{one.column}" + (f" of {one.rule}" if one.rule is not None else "")


def _safe(text: str) -> str:
    """Text from a file, safe to print: no hidden characters, no markup, limited length."""
    return escape(visible(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"))

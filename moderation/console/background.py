"""What `moderate policy background` shows: what was drawn from what, and what to do next."""

from pathlib import Path

from rich.console import Console

from moderation.common.safe_text import visible
from moderation.html.text import command
from moderation.studies.background.drawing_background import Drawn

_OUT = Console(highlight=False)


def show_background(policy: Path, drawn: Drawn, name: str, *, asked: int, written: bool, kept: bool) -> None:
    """Counts, the file, and the line of the policy."""
    _line(f"{drawn.scored:,} images with embeddings of {drawn.archive.model}")
    _line(f"{drawn.ordinary:,} of them are ordinary: allowed, flagged by no rule, one frame, and no exemplar")
    _line(f"{drawn.near:,} candidates are left out: they are the nearest to what the rules look for")
    _line(f"{len(drawn.images):,} drawn")
    if len(drawn.images) < asked:
        _line(f"there are no more than that, fewer than --n {asked:,}: the others are the same pictures")
    if not kept:
        _line("their embeddings could not be stored with the results: the next run reads the images")
    _line("")
    _line(f"written: {visible(str(policy.parent / name))}")
    if written:
        _line(f"{visible(str(policy))} names it")
        _line(f"then     {command('moderate', 'policy', 'check', policy)}")
    else:
        _line(f"put this into {visible(str(policy))}, or use --write:")
        _line(f"         background: {{images: {name}}}")


def _line(text: str) -> None:
    _OUT.print(text, markup=False, highlight=False, soft_wrap=True)

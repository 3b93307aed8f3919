"""What a reader must know before anything else: not published, nothing processed, nothing scored, checks that warn. Pure."""

import shlex
from dataclasses import dataclass
from typing import Literal

from moderation.html.text import number
from moderation.results.check_results import CheckResult
from moderation.results.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and what it does."""

    does: str
    line: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A box at the top of the page."""

    tone: Literal["block", "review", "plain"]
    title: str
    text: str
    reasons: tuple[CheckResult, ...] = ()
    commands: tuple[Command, ...] = ()


def failing(manifest: Manifest) -> tuple[CheckResult, ...]:
    """Checks that keep a run from being published."""
    return tuple(c for c in manifest.checks if not c.passed and c.severity == "fail")


def warning(manifest: Manifest) -> tuple[CheckResult, ...]:
    """Checks that do not hold, and let a run be published."""
    return tuple(c for c in manifest.checks if not c.passed and c.severity == "warn")


def notices(manifest: Manifest, output: str) -> tuple[Notice, ...]:
    """The weightiest first; none for an ordinary run. `output`: the URI of the results, for commands."""
    found = [_quarantined(manifest, output)] if manifest.state == "quarantined" else []
    processed = manifest.scored + manifest.errored
    if manifest.listed == 0:
        found.append(Notice("plain", "Nothing was listed", "The sources have no object that is new or that the run selects."))
    elif processed == 0:
        all_of_them = f"All {number(manifest.listed)} listed images" if manifest.listed > 1 else "The one listed image"
        text = f"{all_of_them} already had a decision under this policy and model, and kept it."
        found.append(Notice("plain", "Nothing new", text))
    elif manifest.scored == 0:
        text = (
            f"Not one of the {number(processed)} images that this run processed could be scored: their content is unknown. "
            "See the errors below."
        )
        found.append(Notice("block", "Nothing was scored", text))
    if damaged := manifest.counts.damaged:
        text = (
            f"{number(damaged)} of the {number(manifest.scored)} scored images have damaged files: cut short, or with broken "
            "parts. They were scored as browsers show them; the column `damaged` of `decisions` says what is wrong."
        )
        found.append(Notice("plain", "Damaged images" if damaged > 1 else "A damaged image", text))
    warned = warning(manifest)
    if warned and manifest.state != "quarantined":
        text = "The run was published anyway; check these before you rely on its numbers."
        title = f"{len(warned)} check warns" if len(warned) == 1 else f"{len(warned)} checks warn"
        found.append(Notice("review", title, text, warned))
    return tuple(found)


def _quarantined(manifest: Manifest, output: str) -> Notice:
    run, results = shlex.quote(manifest.run_id), f"--results {shlex.quote(output)}"
    return Notice(
        "block",
        "This run was not published",
        "Quality checks failed, so the whole run was quarantined. Readers still see the results of earlier runs. "
        "Look at what failed. If the results are right anyway, release the run; if not, discard it, fix the cause and "
        "run again. This page does not change, whatever happens to the run.",
        failing(manifest),
        (
            Command(
                "publish it as it is", f'moderate runs release {run} {results} --reason "why it is right" --by "your name"'
            ),
            Command("delete it", f"moderate runs discard {run} {results}"),
            Command("see its current state", f"moderate runs show {run} {results}"),
        ),
    )

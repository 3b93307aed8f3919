"""What a flow run shows on Prefect's page: a progress bar, a table of rules, a link to the report.

They are a comfort: when Prefect's API is away for a while, scoring goes on without them.
"""

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.telling import UNREACHABLE
from moderation.policy.schema import Policy
from moderation.progress import Pace, Progress
from moderation.summary import count_rows, rule_rows

if TYPE_CHECKING:  # a backtest shows something too, and needs no Ray
    from moderation.pipeline import Outcome

INTERVAL_S = 2.0
"""Seconds between two updates of the progress bar."""

P = ParamSpec("P")
R = TypeVar("R")


class ProgressArtifact:
    """A listener that keeps one progress bar up to date."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None
        self._next = 0.0
        self._pace = Pace()

    def __call__(self, progress: Progress) -> None:
        """Take in a snapshot; most are passed over."""
        now = time.monotonic()
        if progress.stage != "scoring" or (now < self._next and progress.done < progress.planned):
            return
        self._next = now + INTERVAL_S
        percent = 100.0 * progress.done / progress.planned if progress.planned else 0.0
        text = self._pace.told(progress)
        if self._artifact is None:
            created = _try(create_progress_artifact, progress=percent, key="moderation-progress", description=text)
            self._artifact = created if isinstance(created, UUID) else None
        else:
            _try(update_progress_artifact, artifact_id=self._artifact, progress=percent, description=text)


def publish_summary(outcome: "Outcome", policy: Policy) -> None:
    """The sums, the rules and the report of a published run."""
    manifest = outcome.manifest
    lines = "\n".join(f"| {name} | {value} |" for name, value in count_rows(manifest))
    publish_text(
        f"## Run {manifest.run_id}\n\n| | |\n|---|---|\n{lines}\n",
        key="moderation-summary",
        description=f"Policy {policy.policy} {policy.version}",
    )
    _try(create_table_artifact, table=rule_rows(manifest, policy), key="moderation-rules", description="Flagged by rule")
    publish_report(outcome.report)


def publish_report(report: str | None, key: str = "moderation-report") -> None:
    """A link to the report of a run, quarantined ones too."""
    if report:
        _try(create_link_artifact, link=report, link_text="Report", key=key)


def publish_text(markdown: str, key: str, description: str) -> None:
    """Some text in Markdown."""
    _try(create_markdown_artifact, markdown=markdown, key=key, description=description)


def _try(create: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R | None:
    with contextlib.suppress(*UNREACHABLE):
        return create(*arguments, **named)
    return None

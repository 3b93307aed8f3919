"""What a flow run shows on Prefect's page: a progress bar, a table of rules, a link to the report.

They are optional: while Prefect's API is unavailable, scoring continues without them.
"""

import time
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.background import Background
from moderation.common.progress import Pace, Progress
from moderation.policy.schema import Policy
from moderation.report.run_tables import count_rows, rule_rows

if TYPE_CHECKING:  # a backtest shows something too, and needs no Ray
    from moderation.pipeline import Outcome

INTERVAL_S = 2.0
"""Seconds between two updates of the progress bar."""


class ProgressArtifact:
    """A listener that keeps one progress bar up to date, in the background."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._artifact: UUID | None = None
        self._next = 0.0
        self._pace = Pace()

    def __call__(self, progress: Progress) -> None:
        """Process a snapshot; most are ignored."""
        now = time.monotonic()
        if progress.stage != "scoring" or (now < self._next and progress.done < progress.planned):
            return
        self._next = now + INTERVAL_S
        percent = 100.0 * progress.done / progress.planned if progress.planned else 0.0
        self._background.post("progress", partial(self._show, percent, self._pace.describe(progress)))

    def _show(self, percent: float, text: str) -> None:
        if self._artifact is None:
            created = create_progress_artifact(progress=percent, key="moderation-progress", description=text)
            self._artifact = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(artifact_id=self._artifact, progress=percent, description=text)


def publish_summary(background: Background, outcome: "Outcome", policy: Policy) -> None:
    """The sums, the rules and the report of a published run."""
    manifest = outcome.manifest
    lines = "\n".join(f"| {name} | {value} |" for name, value in count_rows(manifest))
    publish_text(
        background,
        f"## Run {manifest.run_id}\n\n| | |\n|---|---|\n{lines}\n",
        key="moderation-summary",
        description=f"Policy {policy.policy} {policy.version}",
    )
    table = rule_rows(manifest, policy)
    background.post("rules", partial(create_table_artifact, table=table, key="moderation-rules", description="Flagged by rule"))
    publish_report(background, outcome.report)


def publish_report(background: Background, report: str | None, key: str = "moderation-report") -> None:
    """A link to the report of a run, quarantined ones too."""
    if report:
        background.post(key, partial(create_link_artifact, link=report, link_text="Report", key=key))


def publish_text(background: Background, markdown: str, key: str, description: str) -> None:
    """Some text in Markdown."""
    background.post(key, partial(create_markdown_artifact, markdown=markdown, key=key, description=description))

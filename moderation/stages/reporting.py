"""The report of a run. A run stays published if its report cannot be written."""

import logging
from dataclasses import dataclass

from moderation.common.logs import about
from moderation.common.progress import Progress, tell
from moderation.errors import OutputError, StorageError
from moderation.planning.inputs import Inputs
from moderation.report.build import build_report
from moderation.report.reviewed_rules import reviewed_rules
from moderation.results.history import earlier_runs
from moderation.results.manifest import Manifest, find_manifest, published_manifests
from moderation.stages.scoring import Scored
from moderation.stages.session import Session

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A published run."""

    manifest: Manifest
    output: str
    report: str | None
    """URI of the report; None if it could not be made"""
    plan: str
    """how the machines were used, in words"""


def published(inputs: Inputs) -> Outcome | None:
    """The run that the settings name, if an earlier attempt published it."""
    output, run_id = inputs.output, inputs.settings.run_id
    manifest = find_manifest(output, run_id) if run_id else None
    if manifest is None:
        return None
    report = output.uri_of(manifest.report) if output.exists(manifest.report) else None
    return Outcome(manifest, output.uri, report, "published by an earlier attempt")


def report(running: Session, scored: Scored, manifest: Manifest) -> Outcome:
    """Write the HTML report. A run stays published if that fails."""
    tell(Progress("writing the report"))
    about(running.paths.run_id, "reporting")
    return Outcome(manifest, running.output.uri, write_report(running, scored, manifest), str(running.workforce))


def write_report(running: Session, scored: Scored, manifest: Manifest) -> str | None:
    """URI of the report of a run, published or quarantined; None if it could not be written."""
    inputs = running.inputs
    try:
        earlier = earlier_runs(published_manifests(running.output), manifest)
    except (StorageError, OutputError) as error:
        _log.warning("the report of run %s could not be written, since earlier runs cannot be read: %s", manifest.run_id, error)
        return None
    return build_report(
        manifest,
        inputs.policy,
        scored.aggregates,
        inputs.reader,
        running.output,
        running.settings.limits,
        earlier=earlier,
        data_docs="data-docs/index.html",
        reviewed=reviewed_rules(running.output, manifest, inputs.policy, inputs.quality.reviews),
    )

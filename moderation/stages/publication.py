"""Publishing a run, or quarantining it where a check failed: either way one manifest names all of its files."""

import logging
import shlex
from datetime import UTC, datetime

from moderation.common.logs import about
from moderation.common.progress import Progress, tell
from moderation.common.versions import versions
from moderation.errors import QuarantinedError
from moderation.policy.compiled import prompt_texts
from moderation.results.check_results import CheckResult
from moderation.results.manifest import Manifest, Timings
from moderation.results.publishing import publish, quarantine
from moderation.results.rule_statistics import rule_statistics
from moderation.results.stored_prompts import prompts_key
from moderation.reviews.meaning import rule_meaning
from moderation.stages.reporting import write_report
from moderation.stages.scoring import Scored
from moderation.stages.session import Session

_log = logging.getLogger(__name__)


def publish_or_quarantine(running: Session, scored: Scored, checks: tuple[CheckResult, ...]) -> Manifest:
    """Publish the run, or quarantine it if a check failed. Raises `QuarantinedError`."""
    tell(Progress("publishing"))
    about(running.paths.run_id, "publishing")
    manifest = _manifest(running, scored, checks)
    failed = [check for check in checks if not check.passed and check.severity == "fail"]
    if failed:
        raise _quarantined(running, scored, manifest, failed)
    publish(running.output, running.paths, manifest, scored.receipts)
    _log.info("published", extra={"listed": manifest.listed, "scored": manifest.scored, "errors": manifest.errored})
    return manifest


def _quarantined(running: Session, scored: Scored, manifest: Manifest, failed: list[CheckResult]) -> QuarantinedError:
    output, run_id = running.output, running.paths.run_id
    place = quarantine(output, running.paths, manifest, scored.receipts)
    page = write_report(running, scored, manifest.model_copy(update={"state": "quarantined"}))
    reasons = "\n".join(f"  - {check}" for check in failed)
    results = shlex.quote(output.uri.removeprefix("file://"))
    _log.info("quarantined", extra={"reason": [str(check) for check in failed]})
    return QuarantinedError(
        f"the run {run_id} was not published; quality checks failed:\n{reasons}\n"
        f"the run is in {place}, its report in {page}; publish it anyway or remove it:\n"
        f"  moderate runs release {run_id} --results {results} --reason 'why it is right' --by 'your name'\n"
        f"  moderate runs discard {run_id} --results {results}"
    )


def _manifest(running: Session, scored: Scored, checks: tuple[CheckResult, ...]) -> Manifest:
    policy, paths = running.inputs.policy, running.paths
    images = scored.counts.scored + scored.counts.errors - scored.earlier
    return Manifest(
        run_id=paths.run_id,
        started_at=running.started_at,
        published_at=datetime.now(UTC),
        sources=running.inputs.source_uris,
        policy=policy.policy,
        policy_version=policy.version,
        policy_hash=policy.hash,
        unreadable=policy.unreadable.value,
        unsupported=policy.unsupported.value if policy.unsupported else None,
        rule_meanings={rule.id: rule_meaning(rule) for rule in policy.rules},
        policy_text=next(iter(running.inputs.policy_files.values())),
        policy_includes=dict(list(running.inputs.policy_files.items())[1:]),
        policy_folder=policy.model.folder,
        model=running.model.name,
        model_fingerprint=running.model.fingerprint,
        prompts=prompts_key(running.model.fingerprint, prompt_texts(policy)),
        device=running.model.device,
        engine=running.workforce.facts(scored.flips),
        settings=running.settings.model_dump(mode="json", exclude={"run_id"}),
        listed=scored.listed,
        unchanged=scored.unchanged,
        repeated=scored.repeated,
        linked_folders=scored.skipped.linked_folders,
        special_files=scored.skipped.special_files,
        redecided=scored.redecided,
        counts=scored.counts,
        timings=Timings(
            wall_seconds=round(scored.wall_seconds, 3),
            images_per_second=round(images / max(scored.wall_seconds, 1e-9), 2),
            images=images,
            busy_seconds={stage: round(seconds, 3) for stage, seconds in scored.seconds.items()},
            bottleneck=running.workforce.bottleneck(scored.seconds),
            threads=running.workforce.threads,
        ),
        checks=checks,
        statistics=rule_statistics(scored.aggregates, scored.counts),
        versions=versions(),
        report=paths.report,
        files=tuple(entry for receipt in scored.receipts for entry in receipt.files),
    )

"""Events that report the outcome of a run, for Prefect's automations (docs/operations.md).

`clip-moderation.run.published`, `.warned` (published, although a check warns), `.quarantined` and `.failed`. The resource is
the run; each failed check is a related resource, such as `clip-moderation.check.flood`.
"""

from collections.abc import Sequence
from typing import Any, Literal

from prefect.events import emit_event
from pydantic import ValidationError

from moderation.common.safe_text import visible
from moderation.errors import ModerationError, StorageError
from moderation.planning.inputs import Inputs
from moderation.results.check_results import CheckResult
from moderation.results.manifest import Manifest
from moderation.results.paths import RunPaths

PREFIX = "clip-moderation"
MOST = 4_000
"""Characters of a reason: chats take no longer messages."""
_UNTAGGED = str.maketrans("<>", "‹›")
"""Names of objects are hostile, and `<!channel>` calls everybody in some chats."""

Became = Literal["published", "warned", "quarantined", "failed"]


def announce_published(manifest: Manifest, report: str | None) -> None:
    """Announce a published run, with checks that only warn."""
    unmet = [check for check in manifest.checks if not check.passed]
    reason = _lines(unmet) if unmet else "all checks passed"
    _emit("warned" if unmet else "published", manifest.run_id, manifest.sources, reason, unmet, report, counts_of(manifest))


def announce_quarantined(inputs: Inputs) -> str | None:
    """Announce a quarantined run. Returns the URI of its report, if there is one."""
    output, run_id = inputs.output, inputs.settings.run_id or ""
    try:
        manifest = Manifest.from_json(output.get(RunPaths(run_id, "", "").quarantined))
        report = output.uri_of(manifest.report) if output.exists(manifest.report) else None
    except (StorageError, ValidationError):  # it failed its checks all the same
        _emit("quarantined", run_id, inputs.source_uris, "quality checks failed", (), None, {})
        return None
    unmet = [check for check in manifest.checks if not check.passed]
    _emit("quarantined", run_id, manifest.sources, _lines(unmet), unmet, report, counts_of(manifest))
    return report


def announce_failed(run_id: str, sources: Sequence[str], error: ModerationError) -> None:
    """Announce a run that could not finish and will not be retried automatically."""
    _emit("failed", run_id, sources, harmless(str(error)), (), None, {})


def counts_of(manifest: Manifest) -> dict[str, int]:
    """The counts that a message needs."""
    return {
        "listed": manifest.listed,
        "unchanged": manifest.unchanged,
        "scored": manifest.scored,
        "errored": manifest.errored,
        "blocked": manifest.counts.blocked,
        "review": manifest.to_review.images,
    }


def harmless(text: str) -> str:
    """Text for a chat: no hidden characters, nothing that a chat interprets as a command."""
    lines = (visible(line).translate(_UNTAGGED) for line in text.split("\n"))
    message = "\n".join(lines)
    return message if len(message) <= MOST else f"{message[: MOST - 1]}…"


def _lines(checks: Sequence[CheckResult]) -> str:
    return harmless("\n".join(f"- {check}" for check in checks))


def _emit(
    became: Became,
    run_id: str,
    sources: Sequence[str],
    reason: str,
    checks: Sequence[CheckResult],
    report: str | None,
    counts: dict[str, int],
) -> None:
    payload: dict[str, Any] = {
        "run_id": run_id,
        "sources": harmless(", ".join(sources)),
        "reason": reason,
        "checks": [check.name for check in checks],
        "report": report or "",
        "counts": counts,
    }
    related = [
        {"prefect.resource.id": f"{PREFIX}.check.{check.name}", "prefect.resource.role": "check", "severity": check.severity}
        for check in checks
    ]
    resource = {"prefect.resource.id": f"{PREFIX}.run.{run_id}", "prefect.resource.name": run_id}
    emit_event(f"{PREFIX}.run.{became}", resource=resource, related=related, payload=payload)

"""Gathers what the report shows, and writes it."""

import logging
from collections.abc import Sequence

from moderation.errors import StorageError
from moderation.images.limits import ImageLimits
from moderation.policy.schema import Policy
from moderation.report.render import render
from moderation.report.thumbnails import Wanted, thumbnails
from moderation.results.aggregates import Aggregates
from moderation.results.manifest import Manifest
from moderation.scoring.tasks import isolated
from moderation.storage import Store

GROUP = 48
"""Images whose thumbnails are made in one process."""

_log = logging.getLogger(__name__)


def build_report(
    manifest: Manifest, policy: Policy, aggregates: Aggregates, source: Store, output: Store, limits: ImageLimits
) -> str | None:
    """Write the report of a run to `manifest.report`. Returns its URI; None, with a warning, if it cannot be written.

    Thumbnails are made in Ray workers: `ray` must be running.
    """
    images = {(e.uri, e.etag, e.frame) for rule in aggregates.rules.values() for e in rule.examples}
    wanted = sorted(images)
    made: dict[tuple[str, int], str] = {}
    for start in range(0, len(wanted), GROUP):
        made |= _isolated_thumbnails(source, wanted[start : start + GROUP], limits)
    page = render(manifest, policy, aggregates, made)
    try:
        output.put(manifest.report, page.encode())
    except StorageError as error:
        reason = " ".join(str(error).split())
        _log.warning("the report of run %s could not be written to %s: %s", manifest.run_id, output.uri, reason)
        return None
    return output.uri_of(manifest.report)


def _isolated_thumbnails(source: Store, wanted: Sequence[Wanted], limits: ImageLimits) -> dict[tuple[str, int], str]:
    """Thumbnails made in another process. If it dies, halves are tried, down to the image that kills it."""
    made = isolated(thumbnails, source, wanted, limits)
    if made is not None:
        return made
    if len(wanted) <= 1:
        return {}
    middle = len(wanted) // 2
    return _isolated_thumbnails(source, wanted[:middle], limits) | _isolated_thumbnails(source, wanted[middle:], limits)

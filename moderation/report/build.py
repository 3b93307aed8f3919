"""Gathers what the report shows, and writes it."""

import logging
from collections.abc import Sequence

from moderation.cluster.tasks import isolated
from moderation.errors import StorageError
from moderation.html.thumbnails import Wanted, thumbnails
from moderation.images.limits import ImageLimits
from moderation.policy.schema import Policy
from moderation.report.report_page import render
from moderation.report.reviewed_rules import Reviewed
from moderation.report.sheets import wanted
from moderation.report.summary import summary
from moderation.results.aggregates import Aggregates
from moderation.results.history import EarlierRun
from moderation.results.manifest import Manifest
from moderation.sources import ObjectReader
from moderation.storage import Store

GROUP = 48
"""Images whose thumbnails are made in one process."""

_log = logging.getLogger(__name__)


def build_report(
    manifest: Manifest,
    policy: Policy,
    aggregates: Aggregates,
    reader: ObjectReader,
    output: Store,
    limits: ImageLimits,
    earlier: Sequence[EarlierRun] = (),
    data_docs: str | None = None,
    reviewed: Reviewed | None = None,
) -> str | None:
    """Write the report of a run to `manifest.report`, and `summary.json` beside it.

    Thumbnails are made in Ray workers: `ray` must be running. `earlier`, `data_docs` and `reviewed` are as in `render`.

    Returns:
        The page's URI; None, with a warning, if it cannot be written.
    """
    images = sorted(wanted(aggregates))
    made: dict[tuple[str, int], str] = {}
    for start in range(0, len(images), GROUP):
        made |= _isolated_thumbnails(reader, images[start : start + GROUP], limits)
    page = render(manifest, policy, aggregates, made, earlier, data_docs, output.uri, reviewed)
    try:
        output.put(summary_beside(manifest.report), summary(manifest, policy, earlier, reviewed))
        output.put(manifest.report, page.encode())
    except StorageError as error:
        reason = " ".join(str(error).split())
        _log.warning("the report of run %s could not be written to %s: %s", manifest.run_id, output.uri, reason)
        return None
    return output.uri_of(manifest.report)


def summary_beside(report: str) -> str:
    """The key of a report's `summary.json`."""
    return f"{report.rpartition('/')[0]}/summary.json"


def _isolated_thumbnails(reader: ObjectReader, images: Sequence[Wanted], limits: ImageLimits) -> dict[tuple[str, int], str]:
    """Thumbnails made in another process. If it dies, halves are tried, down to the image that kills it."""
    made = isolated(thumbnails, reader, images, limits)
    if made is not None:
        return made
    if len(images) <= 1:
        return {}
    middle = len(images) // 2
    return _isolated_thumbnails(reader, images[:middle], limits) | _isolated_thumbnails(reader, images[middle:], limits)

"""A queue as a file for another tool. An image of which nothing may be shown does not leave in a file that shows images."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from moderation.errors import SettingsError
from moderation.exchange.fiftyone_json import write_samples
from moderation.exchange.formats import Format
from moderation.exchange.label_studio import LABEL_CONFIG, write_tasks
from moderation.exchange.queue_item import QueueItem
from moderation.exchange.queue_rows import queue_items
from moderation.exchange.review_csv import write_csv


@dataclass(frozen=True, slots=True)
class Exported:
    """A file, and what is in it."""

    queue: str
    images: int
    restricted: int
    """images that were left out, since they are on a restricted hash list"""
    data: bytes
    interface: bytes | None = None
    """the labeling interface for Label Studio"""


def export_queue(
    connection: duckdb.DuckDBPyConnection, queue: str, file_format: Format, limit: int | None = None, *, blind: bool = False
) -> Exported:
    """The images of a queue in a file, those that have waited longest first.

    Args:
        connection: with the views of `moderation.query`.
        queue: its name.
        file_format: for which tool.
        limit: at most so many images.
        blind: whether what the machine and other people said is left out.

    Raises:
        SettingsError: nothing awaits a person there, or the results cannot be read.
    """
    items = queue_items(connection, queue, limit)
    if not items:
        raise SettingsError(f"no image awaits a person in the queue {queue!r}: there is nothing to export")
    return written(items, queue, file_format, blind=blind)


def written(items: Sequence[QueueItem], queue: str, file_format: Format, *, blind: bool = False) -> Exported:
    """These images in a file; `blind` as for `export_queue`."""
    # A CSV file holds names and no images; the other two tools open what the names stand for.
    shown = items if file_format is Format.CSV else [item for item in items if not item.restricted]
    seen = [item.blinded() for item in shown] if blind else shown
    match file_format:
        case Format.CSV:
            data, interface = write_csv(seen), None
        case Format.LABEL_STUDIO:
            data, interface = write_tasks(seen), LABEL_CONFIG.encode()
        case Format.FIFTYONE:
            data, interface = write_samples(seen, f"moderation-{queue}"), None
    return Exported(queue, len(seen), len(items) - len(shown), data, interface)

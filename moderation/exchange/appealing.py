"""Importing appeals: the image comes back into a queue of its own, with what the person who appeals says."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from moderation.exchange.appeal_files import AppealFile, Filed, read_appeals
from moderation.exchange.importing import read_bytes
from moderation.exchange.known_images import KnownImage, Wanted, known_images
from moderation.exchange.said import Troubles
from moderation.labels.label_file import Remark
from moderation.query.connection import connect, sql_errors
from moderation.query.review_sql import effective_sql
from moderation.reviews.appeal import FOLDER, Appeal, as_table
from moderation.reviews.store import append_rows
from moderation.storage import Store


@dataclass(frozen=True, slots=True)
class ImportedAppeals:
    """What became of a file."""

    file: AppealFile
    appeals: tuple[Appeal, ...]
    """that are new"""
    known: int
    """that the results have already"""
    remarks: tuple[Remark, ...]


def import_appeals(results: str, path: Path) -> ImportedAppeals:
    """Add the appeals in a file to the results. One whose `reference`, or text, is known for its image is not added again.

    Raises:
        SettingsError: the file or the results cannot be read.
        OutputError: the appeals cannot be written.
    """
    file = read_appeals(read_bytes(path), str(path))
    with connect(results) as connection:
        images = known_images(connection, [Wanted(one.uri, one.sha256) for one in file.filed])
        in_effect = _in_effect(connection, [image.uri for image in images.values()])
        with sql_errors():
            seen = set(connection.sql("SELECT uri, coalesce(reference, text) FROM appeals").fetchall())
    troubles, fresh, known, now = Troubles(), list[Appeal](), 0, datetime.now(UTC)
    for n, one in enumerate(file.filed):
        image = images.get(n)
        if image is None:
            troubles.add("the image is not in the results: no published run has a decision about this `uri`", one.line)
            continue
        identity = (image.uri, one.reference or one.text)
        if identity in seen:
            known += 1
            continue
        seen.add(identity)
        fresh.append(_appeal(one, image, file.source, in_effect.get(image.uri, image.action), now))
    append_rows(Store(results), FOLDER, as_table(fresh), "appeal_id")
    return ImportedAppeals(file, tuple(fresh), known, (*file.remarks, *troubles.remarks))


def _appeal(one: Filed, image: KnownImage, source: str, action: str, now: datetime) -> Appeal:
    return Appeal(
        uri=image.uri,
        etag=image.etag,
        sha256=image.sha256,
        text=one.text,
        appellant=one.appellant,
        reference=one.reference,
        appealed_action=action,
        filed_at=one.filed_at or now,
        imported_at=now,
        source=source,
    )


def _in_effect(connection: duckdb.DuckDBPyConnection, uris: list[str]) -> dict[str, str]:
    """By URI, the action that is in effect now."""
    connection.register("_uris", pa.table({"uri": pa.array(sorted(set(uris)), pa.string())}))
    decisions = "SELECT d.* FROM decisions AS d SEMI JOIN _uris USING (uri)"
    try:
        with sql_errors():
            return dict(connection.sql(f"SELECT uri, action FROM ({effective_sql(f'({decisions})')})").fetchall())  # noqa: S608
    finally:
        connection.unregister("_uris")

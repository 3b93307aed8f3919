"""Importing a file of reviews into the results: read, match with what the results know, append what is new."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from moderation.common.safe_text import visible
from moderation.errors import SettingsError
from moderation.exchange.fiftyone_json import read_samples
from moderation.exchange.formats import Format
from moderation.exchange.judging import Context, Judged, Key, image_key, judge
from moderation.exchange.known_images import Wanted, known_images
from moderation.exchange.label_studio import read_export
from moderation.exchange.review_csv import read_csv
from moderation.exchange.said import ReviewFile
from moderation.labels.label_file import Remark
from moderation.query.connection import connect, sql_errors
from moderation.results.manifest import published_manifests
from moderation.reviews.current import IMAGE
from moderation.reviews.meaning import meanings_of
from moderation.reviews.review import Review
from moderation.reviews.schema import as_reviews
from moderation.reviews.store import append
from moderation.storage import Store

_READERS = {Format.CSV: read_csv, Format.LABEL_STUDIO: read_export, Format.FIFTYONE: read_samples}


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file."""

    file: ReviewFile
    judged: Judged
    key: str | None
    """where the new reviews are stored, relative to the output; None: there are none, or it was a trial"""

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """About the file and its rows."""
        return (*self.file.remarks, *self.judged.remarks)

    @property
    def left_out(self) -> int:
        """Rows that could not be used."""
        return len({line for remark in self.remarks if remark.outcome == "left out" for line in remark.lines})


def import_reviews(
    results: str,
    path: Path,
    file_format: Format,
    *,
    reviewer: str | None = None,
    verdicts_only: bool = False,
    trial: bool = False,
) -> Imported:
    """Add the reviews in a file to the results. Importing a file twice adds nothing the second time.

    Args:
        results: the output of runs.
        path: the file.
        file_format: of which tool it is.
        reviewer: who reviewed where the file does not say.
        verdicts_only: whether the reviews answer for rules and decide nothing about images, as those of label files do.
        trial: whether nothing is written.

    Raises:
        SettingsError: the file or the results cannot be read.
        OutputError: the reviews cannot be written.
    """
    file = _READERS[file_format](read_bytes(path), str(path))
    output = Store(results)
    meanings = {manifest.policy_hash: meanings_of(manifest) for manifest in published_manifests(output)}
    with connect(results) as connection:
        wanted = [Wanted(one.uri, one.sha256, one.run_id, one.rule) for one in file.said]
        images = known_images(connection, wanted)
        keys = {image_key(file.said[n].sha256 or image.sha256, image.uri, image.etag) for n, image in images.items()}
        current, ids = _earlier(connection, keys)
        appeals = _rows(connection, f"SELECT appeal_id, {IMAGE} AS image, state FROM appeals")  # noqa: S608
    context = Context(
        images=images,
        meanings=meanings,
        current=current,
        ids=ids,
        open_appeals={row["appeal_id"]: row["image"] for row in appeals if row["state"] == "open"},
        appeals=frozenset(row["appeal_id"] for row in appeals),
        reviewer=reviewer,
        now=datetime.now(UTC),
        verdicts_only=verdicts_only,
    )
    judged = judge(file, context)
    return Imported(file, judged, None if trial else append(output, judged.reviews))


def format_of(path: Path) -> Format:
    """The format of a file by its name and first bytes. Raises `SettingsError` if it is neither CSV nor JSON."""
    data = read_bytes(path)
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"[":
        return Format.LABEL_STUDIO
    if start == b"{":
        return Format.FIFTYONE
    return Format.CSV


def read_bytes(path: Path) -> bytes:
    """The content of a file that a user names. Raises `SettingsError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {visible(str(path))!r}: {(error.strerror or str(error)).lower()}") from None


def _earlier(connection: duckdb.DuckDBPyConnection, keys: set[str]) -> tuple[Mapping[Key, Review], frozenset[str]]:
    """The reviews of some images that count, and the ids of all their reviews."""
    connection.register("_keys", pa.table({"image": pa.array(sorted(keys), pa.string())}))
    try:
        chosen = f"{IMAGE} IN (SELECT image FROM _keys)"  # noqa: S608
        ids = _rows(connection, f"SELECT review_id FROM internal.reviews WHERE {chosen}")  # noqa: S608
        with sql_errors():
            rows = connection.sql(f"SELECT * EXCLUDE (date) FROM current_reviews WHERE {chosen}").to_arrow_table()  # noqa: S608
    finally:
        connection.unregister("_keys")
    found = as_reviews(rows)
    current = {(image_key(one.sha256, one.uri, one.etag), one.rule, one.reviewer): one for one in found}
    return current, frozenset(row["review_id"] for row in ids)


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    with sql_errors():
        rows: list[dict[str, Any]] = connection.sql(sql).to_arrow_table().to_pylist()
    return rows

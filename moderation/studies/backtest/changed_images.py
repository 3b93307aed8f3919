"""The list of changed images: one row for each, in a Parquet file that is written as it grows."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from moderation.common.safe_text import visible
from moderation.errors import OutputError

NAME = "changed.parquet"
_ROW_GROUP = 20_000
_FLAGS = pa.list_(pa.field("element", pa.string(), nullable=False))
_UTC = pa.timestamp("us", tz="UTC")


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


SCHEMA = pa.schema(
    [
        _field("uri", pa.string(), "URI of the object; its key is not escaped"),
        _field("etag", pa.string(), "the object's version that was scored"),
        _field("run_id", pa.string(), "the run whose row and embeddings were used: the newest with this object"),
        _field("last_modified", _UTC, "when the object was last modified"),
        _field("status", pa.string(), "scored | error: the policies' `unreadable` decides images that could not be scored"),
        _field("before", pa.string(), "allow | review | block: the action before"),
        _field("after", pa.string(), "allow | review | block: the action under the new policy"),
        _field("rule_before", pa.string(), "the rule that decided before; null if none acted", nullable=True),
        _field("rule_after", pa.string(), "the rule that decides now; null if none acts", nullable=True),
        _field(
            "rule",
            pa.string(),
            "the rule that score, threshold and frame belong to: `rule_after`, or `rule_before` if none acts now",
            nullable=True,
        ),
        _field(
            "score", pa.float32(), "its score under the new policy; null if the new policy does not score it", nullable=True
        ),
        _field(
            "score_before",
            pa.float32(),
            "that rule's score before; null if it was not scored, or if another rule was the published row's `top_rule`",
            nullable=True,
        ),
        _field("threshold", pa.float32(), "its threshold in the new policy that is nearest to the score", nullable=True),
        _field("frame", pa.int32(), "the frame with that score, counted from 0", nullable=True),
        _field("flags_before", _FLAGS, "ids of the live rules that acted before"),
        _field("flags_after", _FLAGS, "ids of the live rules that act now"),
        _field("near_threshold", pa.bool_(), "whether a live rule's score is within the new policy's `near` of a threshold"),
        _field("policy_hash_before", pa.string(), "identity of the policy that decided before"),
        _field("policy_hash_after", pa.string(), "identity of the new policy"),
    ],
    metadata={"table": "changed", "description": "images for which another policy decides differently", "schema_version": "2"},
)


class ChangedImages:
    """The file while it is written. Memory holds some thousand rows."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[pa.Table] = []
        self.count = 0

    def add(self, rows: pa.Table) -> None:
        """Take in rows of the schema."""
        if not len(rows):
            return
        self._waiting.append(rows)
        self.count += len(rows)
        if sum(map(len, self._waiting)) >= _ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            rows, self._waiting = pa.concat_tables(self._waiting), []
            self._writer.write_table(rows, row_group_size=_ROW_GROUP)


@contextmanager
def writing(path: Path) -> Iterator[ChangedImages]:
    """Write the file, whole or not at all; one that is there is replaced at the end.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    dictionary = [
        f.name for f in SCHEMA if f.name not in ("uri", "etag", "score", "score_before", "flags_before", "flags_after")
    ]
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                open(partial, "xb") as file,
                pq.ParquetWriter(file, SCHEMA, compression="zstd", use_dictionary=dictionary) as writer,
            ):
                images = ChangedImages(writer)
                yield images
                images.flush()
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {visible(str(path))!r}: {(error.strerror or str(error)).lower()}") from None

"""Re-decides images from embeddings that an earlier run stored: no image is read."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from moderation.errors import ModerationError
from moderation.records import BatchSummary, ScoredBatch, Shard
from moderation.results import schemas
from moderation.results.paths import RunPaths
from moderation.results.shard_files import Receipt, write_shard
from moderation.results.stored_images import StoredImages, StoredShard, read_images
from moderation.scoring.columns import embedding_column, same
from moderation.scoring.judging import RowContext, identity_columns, judge, judged_columns, score_rows
from moderation.storage import Store

_KEPT = schemas.columns("object", "image")
"""Columns of decisions that do not depend on the policy."""


def decide_stored(context: RowContext, images: StoredImages, now: datetime) -> ScoredBatch:
    """The rows of stored images under another policy. `images` must have been read with `_KEPT` columns and hashes."""
    judged = judge(context.compiled, images.vectors, images.image_hashes)
    count, kept = images.scored.num_rows, images.scored
    keys = {"run_id": same(context.run_id, count), "uri": _whole(kept["uri"]), "etag": _whole(kept["etag"])}
    decisions = pa.table(
        {
            **{name: kept[name] for name in _KEPT},
            "run_id": keys["run_id"],
            **judged_columns(judged),
            **identity_columns(context, count, now),
        }
    )
    owner = pa.array(np.repeat(np.arange(count), np.diff(images.starts)))
    embeddings = pa.table(
        {
            **{name: column.take(owner) for name, column in keys.items()},
            "sha256": _whole(kept["sha256"]).take(owner),
            "frame": pa.array(images.frames, pa.int32()),
            "pdq": images.image_hashes.pdq,
            "pdq_quality": images.image_hashes.quality,
            "embedding": embedding_column(images.vectors),
        },
        schema=schemas.embeddings(images.vectors.shape[1]),
    )
    return ScoredBatch(
        BatchSummary(replace(judged.counts(), damaged=count - kept["damaged"].null_count), {}),
        decisions.select(schemas.DECISIONS.names).cast(schemas.DECISIONS),
        score_rows(keys, judged),
        embeddings,
    )


def write_decided(
    shard: Shard, stored: Sequence[StoredShard], context: RowContext, paths: RunPaths, output: Store
) -> Receipt | str:
    """Re-decide a shard from the files with its embeddings, and stage it.

    Returns:
        The receipt, or why the embeddings are no longer available: then its objects must be scored.

    Raises:
        RunError, OutputError, StorageError: as `write_shard`.
    """
    began = time.perf_counter()
    wanted = {(item.uri, item.etag) for item in shard.objects}
    batches = []
    for source in stored:
        try:
            images = read_images(output, source, _KEPT, with_hashes=True)
        except ModerationError as error:
            return str(error)
        found = list(zip(images.scored["uri"].to_pylist(), images.scored["etag"].to_pylist(), strict=True))
        chosen = [version in wanted for version in found]
        wanted.difference_update(found)
        images = images.keep(np.array(chosen, bool), np.zeros(images.errors.num_rows, bool))
        batches.append(decide_stored(context, images, datetime.now(UTC)))
    if wanted:
        return f"{len(wanted)} of {len(shard.objects)} images are no longer in the files that had their embeddings"
    seconds = {"score": time.perf_counter() - began}
    batches[0] = replace(batches[0], summary=BatchSummary(batches[0].summary.counts, seconds))
    dim = context.compiled.dim
    return write_shard(shard, batches, context.compiled.policy, dim, paths, output, redecided=True)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)

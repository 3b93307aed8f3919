"""One shard, decided again from its embeddings."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.lists.lookup import ImageHashes
from moderation.records import Counts
from moderation.results import schemas
from moderation.results.stored_images import frame_hashes, frame_starts
from moderation.scoring.columns import same
from moderation.scoring.judging import Judged, RowContext, identity_columns, judge, judged_columns, score_rows
from moderation.scoring.unscored import RETRYABLE, Unscored, judge_unscored, unscored_columns
from moderation.studies.replay.replay_result import Difference
from moderation.studies.replay.row_comparison import NOTHING, Differences
from moderation.studies.replay.shard_reading import LoadedShard

UNIT = 0.005
"""How far a unit vector may be from length 1, as float16 rounds it."""
_BLOCK = 4096
_NOW = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Embeddings:
    """Embeddings of N images in F frames, by URI and frame."""

    rows: pa.Table
    vectors: NDArray[np.float16]
    """[F, D]"""
    starts: NDArray[np.int64]
    """[N + 1] image i has the rows starts[i] to starts[i + 1]"""
    frames: NDArray[np.int32]
    """[F]"""

    def hashes(self, scored: pa.Table) -> ImageHashes:
        """The hashes of these images, with the decision rows [N]."""
        found = frame_hashes(self.rows, scored, self.starts)
        return ImageHashes(scored["sha256"], scored["md5"], found["pdq"], found["pdq_quality"], self.starts, self.frames)


def replay_shard(shard: LoadedShard, context: RowContext, differences: Differences) -> Counts | None:
    """Decide the images of a shard and compare everything that follows with what is stored.

    Returns:
        The sums of what was recomputed; None if the tables do not fit together. `shard.problems` says why.
    """
    differences.next_shard()
    decisions = shard.tables["decisions"].sort_by("uri")
    if decisions["uri"].null_count:
        shard.problems.append(f"shard {shard.name}: decisions has a row without a URI")
        return None
    if pc.count_distinct(decisions["uri"]).as_py() != decisions.num_rows:
        shard.problems.append(f"shard {shard.name}: decisions has several rows for one image")
        return None
    is_scored = pc.fill_null(pc.equal(decisions["status"], "scored"), False)  # noqa: FBT003
    scored, errors = decisions.filter(is_scored), decisions.filter(pc.invert(is_scored))
    embeddings = _embeddings(shard, scored, context.compiled.dim)
    if embeddings is None:
        return None
    with np.errstate(all="ignore"):  # embeddings that are not numbers are reported, and give NaN scores
        judged = judge(context.compiled, embeddings.vectors, embeddings.hashes(scored))
    codes = errors["error_code"].to_pylist()
    unscored = judge_unscored(context.compiled, codes, ImageHashes.of_bytes(errors["sha256"], errors["md5"]))
    keys = {"run_id": same(context.run_id, len(scored)), "uri": scored["uri"].combine_chunks()}
    keys["etag"] = scored["etag"].combine_chunks()
    _compare_columns(scored, _scored_columns(judged, context), shard, differences)
    _compare_columns(errors, _error_columns(errors, unscored, context, differences), shard, differences)
    _compare_scores(shard.tables["scores"], _by_rule(score_rows(keys, judged), judged), differences)
    _compare_embeddings(embeddings, keys, scored["sha256"], differences)
    return judged.counts() + unscored.counts()


def _embeddings(shard: LoadedShard, scored: pa.Table, dim: int) -> _Embeddings | None:
    """The embeddings of these images. None, with a problem, if they are not exactly theirs."""
    rows = shard.tables["embeddings"].sort_by([("uri", "ascending"), ("frame", "ascending")])

    problem = _misfit(rows, scored["uri"], dim)
    if problem is not None:
        shard.problems.append(f"shard {shard.name}: {problem}")
        return None
    starts = frame_starts(rows["uri"])
    frames = rows["frame"].to_numpy()
    column = rows["embedding"]
    flat = [np.asarray(chunk.flatten().to_numpy(zero_copy_only=False), np.float16) for chunk in column.chunks]
    vectors = np.concatenate(flat).reshape(-1, dim) if flat else np.empty((0, dim), np.float16)
    _check_lengths(shard, rows, vectors)
    return _Embeddings(rows, vectors, starts, frames)


def _misfit(rows: pa.Table, scored: pa.ChunkedArray, dim: int) -> str | None:
    """Why rows of embeddings, by URI and frame, are not those of the scored images; None if they are."""
    column = rows["embedding"]
    if column.type.list_size != dim:
        return f"its embeddings have {column.type.list_size} numbers, the prompts {dim}: another model made them"
    if any(rows[name].null_count for name in ("uri", "frame")):
        return "embeddings has a row without a URI or a frame"
    if column.null_count or any(chunk.flatten().null_count for chunk in column.chunks):
        return "an embedding is null"
    starts = frame_starts(rows["uri"])
    theirs = rows["uri"].take(pa.array(starts[:-1]))
    without, strange = (a.filter(pc.invert(pc.is_in(a, b))) for a, b in ((scored, theirs), (theirs, scored)))
    if len(without):
        return f"{len(without):,} scored images have no embedding, such as {without[0].as_py()!r}"
    if len(strange):
        return f"{len(strange):,} images have embeddings and no scored row, such as {strange[0].as_py()!r}"
    frames = rows["frame"].to_numpy().astype(np.int64)
    repeated = np.diff(frames) == 0
    repeated[starts[1:-1] - 1] = False  # the last frame of an image and the first of the next
    return "an image has two embeddings for one frame" if repeated.any() else None


def _check_lengths(shard: LoadedShard, rows: pa.Table, vectors: NDArray[np.float16]) -> None:
    lengths = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK].astype(np.float32)
        lengths[start : start + _BLOCK] = np.sqrt(np.einsum("ij,ij->i", block, block))
    odd = np.flatnonzero(~(np.abs(lengths - 1.0) <= UNIT))
    if len(odd):
        first = int(odd[0])
        what = f"has length {lengths[first]:.4g}" if np.isfinite(lengths[first]) else "contains a value that is not a number"
        many = f"; so are {len(odd) - 1:,} more" if len(odd) > 1 else ""
        uri, frame = rows["uri"][first].as_py(), rows["frame"][first].as_py()
        shard.problems.append(f"the embedding of {uri!r}, frame {frame}, is not a unit vector: it {what}{many}")


def _scored_columns(judged: Judged, context: RowContext) -> dict[str, pa.Array]:
    count = len(judged.score)
    return {
        "run_id": same(context.run_id, count),
        "error_code": pa.nulls(count, pa.string()),
        "error_detail": pa.nulls(count, pa.string()),
        "retryable": pa.repeat(pa.scalar(value=False), count),
        **judged_columns(judged),
        **identity_columns(context, count, _NOW),
    }


def _error_columns(errors: pa.Table, unscored: Unscored, context: RowContext, differences: Differences) -> dict[str, pa.Array]:
    """What became of images without scores: `unreadable`, `unsupported` or a list decides, and nothing is known of them."""
    count = len(errors)
    for uri, code in zip(errors["uri"].to_pylist(), unscored.codes, strict=True):
        if code not in RETRYABLE:
            text = NOTHING if code is None else code
            differences.add(Difference(uri, "decisions", "error_code", text, "a code that this program knows"))
    return {
        "run_id": same(context.run_id, count),
        **unscored_columns(unscored),
        **identity_columns(context, count, _NOW),
    }


def _compare_columns(stored: pa.Table, expected: dict[str, pa.Array], shard: LoadedShard, differences: Differences) -> None:
    for name in schemas.DECISIONS.names:  # the order in which people read them
        if name in expected and name not in ("scored_at", *shard.later):
            differences.compare("decisions", name, stored[name], expected[name], stored["uri"])


def _by_rule(rows: pa.Table, judged: Judged) -> pa.Table:
    """Rows of scores, images outermost, with the rules of each image in the order of their ids."""
    order = np.array(sorted(range(len(judged.rules)), key=lambda r: judged.rules[r].id), np.int64)
    return rows.take(pa.array((np.arange(len(judged.score))[:, None] * len(order) + order).ravel()))


def _compare_scores(stored: pa.Table, expected: pa.Table, differences: Differences) -> None:
    keys = ("uri", "rule")
    if not all(stored[name].equals(expected[name]) for name in keys):  # files are in this order, unless somebody rewrote them
        stored = stored.sort_by([(name, "ascending") for name in keys])
    if not all(stored[name].equals(expected[name]) for name in keys):
        stored, expected = _in_both(stored, expected, differences)
    for name in schemas.SCORES.names:
        if name not in ("uri", "rule"):
            differences.compare("scores", name, stored[name], expected[name], expected["uri"], expected["rule"])


def _in_both(stored: pa.Table, expected: pa.Table, differences: Differences) -> tuple[pa.Table, pa.Table]:
    """The rows that both have, aligned; what only one has is a difference."""
    places: dict[tuple[str, str], int] = {}
    for number, (uri, rule) in enumerate(zip(stored["uri"].to_pylist(), stored["rule"].to_pylist(), strict=True)):
        if (uri, rule) in places:
            differences.add(Difference(uri, "scores", "row", "a second row", "one row", rule))
        else:
            places[uri, rule] = number
    pairs = []
    for number, (uri, rule) in enumerate(zip(expected["uri"].to_pylist(), expected["rule"].to_pylist(), strict=True)):
        place = places.pop((uri, rule), None)
        if place is None:
            differences.add(Difference(uri, "scores", "row", "no row", "a row", rule))
        else:
            pairs.append((place, number))
    for uri, rule in places:
        differences.add(Difference(uri, "scores", "row", "a row", "no row", rule))
    at = np.array(pairs, np.int64).reshape(-1, 2)
    return stored.take(pa.array(at[:, 0])), expected.take(pa.array(at[:, 1]))


def _compare_embeddings(
    embeddings: _Embeddings, keys: dict[str, pa.Array], sha256: pa.ChunkedArray, differences: Differences
) -> None:
    image = pa.array(np.repeat(np.arange(len(embeddings.starts) - 1), np.diff(embeddings.starts)))
    uris = embeddings.rows["uri"]
    for name, column in (("run_id", keys["run_id"]), ("etag", keys["etag"]), ("sha256", sha256)):
        differences.compare("embeddings", name, embeddings.rows[name], column.take(image), uris)

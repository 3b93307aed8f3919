"""Flagged images in the report: spread over the range of scores, one picture for all that look like it."""

import hashlib
import time
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from report_pages import SOURCE
from support import make_policy

from moderation.demo import IMAGES_DIR
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.report.sheets import sheets
from moderation.results import schemas, sketches
from moderation.results.aggregates import CANDIDATES, EXAMPLES, Aggregates, RuleAggregate, aggregate
from moderation.results.spread import BANDS

POLICY = make_policy({"id": "flies", "prompts": ["a fly"], "review": 0.4, "block": 0.8})
DIM = 512


def random_vectors(count: int, dim: int = DIM) -> NDArray[np.float16]:
    found = np.random.default_rng(3).standard_normal((count, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def tables(score: NDArray[np.float32], vectors: NDArray[np.float16], first: int = 0) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The rows of one frame each, under one rule; no two have the same bytes, and PDQ hashes say nothing."""
    count, dim = vectors.shape
    names = [f"{SOURCE}/{first + i:06}" for i in range(count)]
    uris = pa.array(names, pa.string())
    action = np.where(score >= 0.8, "block", np.where(score >= 0.4, "review", "allow"))
    decisions = pa.table(
        {
            "run_id": ["run"] * count,
            "uri": uris,
            "etag": ["1"] * count,
            "status": ["scored"] * count,
            "error_code": pa.nulls(count, pa.string()),
            "error_detail": pa.nulls(count, pa.string()),
            "sha256": [hashlib.sha256(name.encode()).hexdigest() for name in names],
            "pdq": pa.nulls(count, pa.string()),
            "pdq_quality": pa.nulls(count, pa.int32()),
            "flagged": action != "allow",
            "top_rule": ["flies"] * count,
            "top_score": score,
            "frame": pa.array([0] * count, pa.int32()),
        }
    )
    scores = pa.table(
        {
            "uri": uris,
            "etag": ["1"] * count,
            "rule": ["flies"] * count,
            "score": score,
            "action": action.tolist(),
            "top_prompt": ["a fly"] * count,
            "frame": pa.array([0] * count, pa.int32()),
        }
    )
    embedding = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.ravel()), type=schemas.embeddings(dim).field("embedding").type
    )
    return decisions, scores, pa.table({"uri": uris, "frame": pa.array([0] * count, pa.int32()), "embedding": embedding})


def of(score: NDArray[np.float32], vectors: NDArray[np.float16], cuts: int = 1) -> RuleAggregate:
    """What is kept of images that lie in so many shards."""
    parts, first = [], 0
    for s, v in zip(np.array_split(score, cuts), np.array_split(vectors, cuts), strict=True):
        parts.append(aggregate(POLICY, *tables(s, v, first)))
        first += len(s)
    return reduce(add, parts, Aggregates()).rules["flies"]


@pytest.fixture(scope="module")
def rotations() -> NDArray[np.float16]:
    """The demo model's embeddings of twelve rotations of one fly."""
    fly = Image.open(IMAGES_DIR / "listings" / "48777-fly.webp").convert("RGB")
    encoder = OpenClipEncoder(name="demo", device="cpu", precision="fp32", engine="eager", threads=1)
    turned = [fly.rotate(angle, fillcolor=fly.getpixel((0, 0))) for angle in range(0, 360, 30)]
    return encoder.encode_images(np.stack([encoder.preprocessing(image) for image in turned])).astype(np.float16)


@pytest.mark.parametrize("cuts", [1, 3])
def test_twelve_rotations_of_one_image_are_shown_as_one_example(rotations: NDArray[np.float16], cuts: int) -> None:
    others = random_vectors(135, rotations.shape[1])
    score = np.concatenate([np.linspace(0.99, 0.999, 12), np.linspace(0.41, 0.98, 135)]).astype(np.float32)
    vectors = np.concatenate([rotations, others])
    order = np.random.default_rng(5).permutation(len(score))
    shown = sheets(of(score[order], vectors[order], cuts)).flagged
    assert len(shown) == EXAMPLES
    flies = [e for e in shown if e.score >= 0.99]
    assert len(flies) == 1
    assert flies[0].copies == 12 if cuts == 1 else flies[0].copies > 1  # what a shard did not keep is not counted
    assert all(e.copies == 1 for e in shown if e.score < 0.99)
    assert [e.score for e in shown] == sorted((e.score for e in shown), reverse=True)


def test_every_part_of_the_range_is_shown() -> None:
    score = np.concatenate([np.full(5_000, 0.999), np.linspace(0.4, 1.0, 121)]).astype(np.float32)
    shown = sheets(of(score, random_vectors(len(score)))).flagged
    places = [min(int((e.score - 0.4) / 0.6 * BANDS), BANDS - 1) for e in shown]
    assert shown[0].score == 1.0
    assert sorted(places[1:]) == list(range(BANDS))


def test_what_is_kept_is_the_same_however_the_run_was_cut() -> None:
    score = np.random.default_rng(7).beta(5, 1, 900).astype(np.float32)
    vectors = random_vectors(900, 64)
    vectors[1::3] = vectors[::3]  # each third picture has a copy with other bytes
    score[1::3] = score[::3]
    whole = of(score, vectors).spread
    assert len(whole) == CANDIDATES * EXAMPLES
    assert {e.copies for e in whole} == {1, 2}
    assert of(score, vectors).spread == whole
    # Neighbours lie in one shard, so that no pair is cut in two.
    assert of(score, vectors, cuts=3).spread == whole


def test_unlike_images_of_the_same_first_frame_are_not_one() -> None:
    score = np.array([0.9, 0.9], np.float32)
    decisions, scores, embeddings = tables(score, random_vectors(2))
    white = random_vectors(3)[2]
    frames = pa.table(
        {
            "uri": pa.concat_arrays([embeddings["uri"].combine_chunks()] * 2),
            "frame": pa.array([0, 0, 3, 3], pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(np.concatenate([white, white, random_vectors(2).ravel()])), type=embeddings["embedding"].type
            ),
        }
    )
    in_fourth = scores.set_column(6, "frame", pa.array([3, 3], pa.int32()))
    assert [e.copies for e in aggregate(POLICY, decisions, in_fourth, frames).rules["flies"].spread] == [1, 1]
    assert [e.copies for e in aggregate(POLICY, decisions, scores, frames).rules["flies"].spread] == [2]


def test_embedding_sketches_keep_cosines() -> None:
    vectors = random_vectors(400)
    mixed = vectors[:200].astype(np.float64) + np.linspace(0, 0.5, 200)[:, None] * vectors[200:]
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    one, other = (sketches.sketches(v.astype(np.float16)).astype(np.float64) for v in (vectors[:200], mixed))
    kept = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert np.abs(kept - (vectors[:200] * mixed).sum(axis=1)).max() < 0.06
    assert np.abs(kept - (vectors[:200] * mixed).sum(axis=1)).std() < 0.02
    cut = [sketches.sketches(part) for part in np.array_split(vectors, 7)]
    assert np.array_equal(np.concatenate(cut), sketches.sketches(vectors))


def test_a_shard_in_which_everything_is_flagged_takes_little_time_and_room() -> None:
    count = 20_000
    alike = np.repeat(random_vectors(1), count, axis=0)
    began = time.monotonic()
    found = aggregate(POLICY, *tables(np.full(count, 0.9, np.float32), alike))
    assert time.monotonic() - began < 60
    assert [e.copies for e in found.rules["flies"].spread] == [count]
    assert len(found.model_dump_json()) < 100_000

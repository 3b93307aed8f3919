"""Shards as the pipeline stages them, without images or a model, for the tests of the quality checks."""

import warnings
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from support import make_policy

from moderation.errors import ErrorCode
from moderation.lists.hash_list import HashKind, HashList
from moderation.planning.plan import Page, store_page
from moderation.planning.planner import Tally
from moderation.planning.sharding import shard_name
from moderation.policy.assets import Assets
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.schema import Action, ListedImages
from moderation.quality.facts import ExpectedRows
from moderation.quality.quality_limits import QualityLimits
from moderation.records import ObjectRef, Shard
from moderation.results.paths import RunPaths
from moderation.results.shard_files import write_shard
from moderation.scoring.decision_rows import Embedded, Failure, build_rows
from moderation.scoring.judging import RowContext

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Great Expectations imports sre_constants
    import moderation.quality.expectations  # noqa: F401

DIM = 8
NOW = datetime(2026, 11, 21, tzinfo=UTC)
PATHS = RunPaths("run-1", "2026-11-21", "fingerprint")
POLICY = make_policy(
    {"review": 0.5, "block": 0.8},
    {"review": 0.6, "block": None, "mode": "shadow"},
    {"review": 0.3, "score": "similarity"},
    {"mode": "off"},
)
KNOWN = HashList(HashKind.SHA256, np.full((1, 32), 0xAA, np.uint8), pa.array([""], pa.large_string()))
POLICY = POLICY.model_copy(
    update={"lists": (ListedImages(id="known", file="known.txt", hash=HashKind.SHA256, action=Action.BLOCK),)}
).with_assets(Assets(lists={"known": KNOWN}))
EXPECTED = ExpectedRows(PATHS.run_id, POLICY, PATHS.fingerprint)
LIMITS = QualityLimits()
RULES = [rule.id for rule in POLICY.active_rules]


def context(policy=POLICY):
    random = np.random.default_rng(0)
    texts = {text: random.normal(size=DIM).astype(np.float32) for text in prompt_texts(policy)}
    head = TextHead({text: vector / np.linalg.norm(vector) for text, vector in texts.items()}, 4.0, None)
    return RowContext(PATHS.run_id, CompiledPolicy.build(policy, head), "none", PATHS.fingerprint)


def objects(count, folder="a"):
    return tuple(ObjectRef(f"s3://shop/{folder}/{n:03}.jpg", f"{n:032x}", n, NOW) for n in range(count))


def batch(items, errors=2, policy=POLICY):
    """The rows of some objects, the first ones of which could not be scored."""
    vectors = np.random.default_rng(7).normal(size=(len(items) - errors, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    failures = [Failure(item, ErrorCode.CORRUPT, "cannot be decoded") for item in items[:errors]]
    embedded = [Embedded(item, "0" * 64, "JPEG", 640, 480, 1, (0,)) for item in items[errors:]]
    return build_rows(context(policy), embedded, vectors.astype(np.float16), failures, NOW)


def staged(output, number, items, errors=2):
    """One shard, planned and staged; its receipt."""
    shard = Shard(shard_name(items), items)
    store_page(output, PATHS, number, Page(shard, listed=Tally().listed_so_far()))
    return write_shard(shard, [batch(items, errors)], POLICY, DIM, PATHS, output)


def only(name, **limits):
    """All checks off but one."""
    off = dict.fromkeys(type(LIMITS.checks).model_fields, "off")
    return QualityLimits.model_validate({"checks": {**off, name: {"severity": "fail", **limits}}})

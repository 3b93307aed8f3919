"""What the report and the checks need of the rows, small enough to travel: sums, and some images per rule.

A shard's aggregates stay under some hundred kilobytes however many rules there are. Sums do not depend on the order of
shards, except for near-identical images: who is like whom is not transitive, so that their count may differ by a few.
"""

import hashlib
import heapq
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict

from moderation.policy.decision import Thresholds
from moderation.policy.schema import Action, Policy, Rule, Severity
from moderation.records import add_numbers
from moderation.results import sketches, spread
from moderation.results.example_images import DIGEST, Example, Pictures, collapse
from moderation.results.showing import may_show

BINS = 40
EXAMPLES = 12
"""Images of a kind kept per rule, and objects per error code; fewer with many rules, see `examples_of`."""
MOST_EXAMPLES = 288
"""Images of a kind kept of all rules together."""
CANDIDATES = 2
"""Flagged images kept for each that is shown: some turn out to look like those of other shards."""
PROMPTS = 20
"""Prompts whose images are counted, per rule and shard."""
ENTRIES = 1000
"""Entries whose images are counted, per hash list."""
SAMPLE = 24
"""Clean images kept for an audit."""

Extreme = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A score that may be NaN, which JSON cannot represent."""


def examples_of(rules: int) -> int:
    """How many images of a kind are kept for each of so many rules."""
    return max(1, min(EXAMPLES, MOST_EXAMPLES // max(1, rules)))


class ErrorExample(NamedTuple):
    """An object that could not be scored."""

    uri: str
    detail: str


class CleanExample(NamedTuple):
    """An image that no live rule flagged, drawn at random."""

    lot: str
    """the hash that drew it: the lowest ones of a run are kept"""
    uri: str
    etag: str
    rule: str | None
    """the live rule that came closest; None if none is live"""
    score: float | None
    frame: int
    critical: bool = False
    """whether a critical rule acts on it; only a shadow rule can"""


class RuleAggregate(BaseModel):
    """Scores of one rule over many images."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    histogram: tuple[int, ...]
    """counts in `BINS` equal bins from `low` to `high`"""
    minimum: Extreme
    maximum: Extreme
    examples: tuple[Example, ...]
    """the highest scores, highest first"""
    spread: tuple[Example, ...] = ()
    """flagged images over the whole range of scores, up to `CANDIDATES` for each example, the first to be shown first"""
    near: tuple[Example, ...] = ()
    """scores within the policy's `near` of a threshold, closest first"""
    thresholds: tuple[float, ...] = ()
    """review and block, as far as they are set"""
    flagged: int = 0
    """images for which the rule says review or block; a shadow rule's too"""
    prompts: Mapping[str, int] = {}
    """how many of those were closest to each prompt"""

    @property
    def scored(self) -> int:
        """Images with a score."""
        return sum(self.histogram)

    @property
    def floor(self) -> float:
        """The lowest threshold: scores from there on are flagged."""
        return min(self.thresholds, default=self.low)

    def add(self, other: "RuleAggregate", kept: int) -> "RuleAggregate":
        """The sum, with up to `kept` examples of a kind."""
        return RuleAggregate(
            low=self.low,
            high=self.high,
            histogram=tuple(a + b for a, b in zip(self.histogram, other.histogram, strict=True)),
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            examples=collapse((*self.examples, *other.examples), lambda e: -e.score, kept),
            spread=spread.merged((*self.spread, *other.spread), self.floor, self.high, CANDIDATES * kept),
            near=collapse((*self.near, *other.near), lambda e: min(abs(e.score - t) for t in self.thresholds), kept),
            thresholds=self.thresholds,
            flagged=self.flagged + other.flagged,
            prompts=add_numbers(self.prompts, other.prompts),
        )


class Aggregates(BaseModel):
    """Aggregates of a shard or a run."""

    model_config = ConfigDict(frozen=True)

    rules: Mapping[str, RuleAggregate] = {}
    errors: Mapping[str, tuple[ErrorExample, ...]] = {}
    """some examples by error code"""
    entries: Mapping[str, Mapping[str, int]] = {}
    """by hash list: images by the entry that they match, those with the most of them"""
    clean: tuple[CleanExample, ...] = ()
    """a uniformly random sample of the clean images: the same one however the run was cut into shards"""

    def __add__(self, other: "Aggregates") -> "Aggregates":
        rules = dict(self.rules)
        kept = examples_of(len({*self.rules, *other.rules}))
        for rule, aggregate in other.rules.items():
            rules[rule] = rules[rule].add(aggregate, kept) if rule in rules else aggregate
        codes = sorted({*self.errors, *other.errors})
        errors = {c: tuple(sorted((*self.errors.get(c, ()), *other.errors.get(c, ())))[:EXAMPLES]) for c in codes}
        entries = {
            name: _most(add_numbers(self.entries.get(name, {}), other.entries.get(name, {})))
            for name in sorted({*self.entries, *other.entries})
        }
        clean = tuple(heapq.nsmallest(SAMPLE, (*self.clean, *other.clean)))
        return Aggregates(rules=rules, errors=errors, entries=entries, clean=clean)


def aggregate(policy: Policy, decisions: pa.Table, scores: pa.Table, embeddings: pa.Table | None = None) -> Aggregates:
    """Aggregates of one shard's rows. Without embeddings, only bytes and PDQ hashes say which images look alike.

    Images on a restricted hash list are counted, and are never among the examples.
    """
    shown = may_show(decisions)
    failed = decisions.filter(pa.array(shown)).filter(pc.field("status") == "error")
    failed = failed.select(["error_code", "uri", "error_detail"])
    errors: dict[str, tuple[ErrorExample, ...]] = {}
    for code in sorted(pc.unique(failed["error_code"]).to_pylist()):
        some = failed.filter(pc.field("error_code") == code).sort_by("uri").slice(0, EXAMPLES).to_pylist()
        errors[code] = tuple(ErrorExample(row["uri"], row["error_detail"]) for row in some)
    columns = _Columns(policy, decisions, scores, embeddings, shown)
    return Aggregates(
        rules=_by_rule(policy, columns, scores),
        errors=errors,
        entries=_entries(decisions),
        clean=_sample(decisions.filter(pa.array(shown)), columns.critical[shown]),
    )


def _entries(decisions: pa.Table) -> dict[str, dict[str, int]]:
    """Images by list and by the entry that they match."""
    found: dict[str, dict[str, int]] = {}
    if "list_matches" in decisions.column_names:
        matches = pc.list_flatten(decisions["list_matches"])
        table = pa.table({name: pc.struct_field(matches, name) for name in ("list", "entry")})
        for row in table.group_by(["list", "entry"]).aggregate([([], "count_all")]).to_pylist():
            found.setdefault(row["list"], {})[row["entry"]] = row["count_all"]
    return {name: _most(entries) for name, entries in sorted(found.items())}


def _most(entries: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(entries.items(), key=lambda item: (-item[1], item[0]))[:ENTRIES])


def _by_rule(policy: Policy, columns: "_Columns", scores: pa.Table) -> dict[str, RuleAggregate]:
    rules = policy.active_rules
    number = _places(scores["rule"], pa.array([rule.id for rule in rules], pa.string()))
    order = np.argsort(number.astype(np.int16), kind="stable")
    starts = np.searchsorted(number[order], np.arange(len(rules) + 1))
    kept = examples_of(len(rules))
    return {
        rule.id: columns.aggregate(rule, order[start:end], policy.near, kept)
        for rule, start, end in zip(rules, starts, starts[1:], strict=False)
        if end > start
    }


class _Columns:
    """A shard's rows as arrays: each column is looked at once, not once per rule."""

    def __init__(
        self, policy: Policy, decisions: pa.Table, scores: pa.Table, embeddings: pa.Table | None, shown: NDArray[np.bool_]
    ) -> None:
        self._decisions, self._scores = decisions, scores
        self._shown = shown
        self._pictures = Pictures(decisions)
        self._image = _places(scores["uri"], decisions["uri"].combine_chunks())
        self._score = scores["score"].to_numpy()
        self._acts = np.asarray(pc.not_equal(scores["action"], Action.ALLOW.value))
        self._frame = scores["frame"].to_numpy()
        self._looks_like = None if embeddings is None else spread.Looks(embeddings, decisions["uri"].combine_chunks())
        prompts = scores["top_prompt"].combine_chunks().dictionary_encode()
        self._prompt, self._prompts = np.asarray(prompts.indices), prompts.dictionary.to_pylist()
        critical = pa.array([rule.id for rule in policy.rules if rule.severity is Severity.CRITICAL], pa.string())
        severe = self._image[self._acts & np.asarray(pc.is_in(scores["rule"], critical))]
        self.critical = np.zeros(decisions.num_rows, np.bool_)
        """by row of the decisions: whether a critical rule acts on the image, a shadow rule too"""
        self.critical[severe[severe >= 0]] = True

    def aggregate(self, rule: Rule, rows: NDArray[np.int64], near: float, kept: int) -> RuleAggregate:
        """The aggregate of one rule, whose scores are in `rows`."""
        score, acts = self._score[rows], self._acts[rows]
        low, high = rule.score.facts.shown
        histogram, _ = np.histogram(np.clip(score, low, high), bins=BINS, range=(low, high))
        prompts, counts = np.unique(self._prompt[rows[acts]], return_counts=True)
        most = np.argsort(-counts, kind="stable")[:PROMPTS]
        thresholds = Thresholds.of((rule,), near)
        close = rows[thresholds.distance(score[:, None])[:, 0] <= thresholds.near]
        distance = np.abs(self._score[close, None].astype(np.float64) - np.array(rule.thresholds)).min(axis=1)
        return RuleAggregate(
            low=low,
            high=high,
            histogram=tuple(histogram.tolist()),
            minimum=float(score.min()),
            maximum=float(score.max()),
            examples=self._examples(rows, -score.astype(np.float64), kept),
            spread=self._spread(rows[acts], min(rule.thresholds, default=low), high, CANDIDATES * kept),
            near=self._examples(close, distance, kept),
            thresholds=rule.thresholds,
            flagged=int(acts.sum()),
            prompts={self._prompts[prompts[i]]: int(counts[i]) for i in most},
        )

    def _examples(self, rows: NDArray[np.int64], order: NDArray[np.float64], kept: int) -> tuple[Example, ...]:
        usable = np.isfinite(order) & self._usable(rows)
        rows, order = rows[usable], order[usable]
        found = self._pictures.collapse(self._image[rows], order, kept)
        return self._taken(rows[[i for i, _ in found]], [copies for _, copies in found])

    def _spread(self, rows: NDArray[np.int64], low: float, high: float, kept: int) -> tuple[Example, ...]:
        rows = rows[np.isfinite(self._score[rows]) & self._usable(rows)]
        images = self._image[rows]
        none = np.zeros((len(rows), 0), np.int8)
        sketch = none if self._looks_like is None else self._looks_like.sketches(images, self._frame[rows])
        drawn = spread.draw(self._pictures, images, self._score[rows], (low, high), sketch, kept)
        found = self._taken(rows[[i for i, _ in drawn]], [int(same.sum()) for _, same in drawn])
        return tuple(
            one._replace(sketch=sketches.encoded(sketch[i]), critical=bool(self.critical[images[same]].any()))
            for one, (i, same) in zip(found, drawn, strict=True)
        )

    def _usable(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether scores belong to images that may be shown."""
        image = self._image[rows]
        return (image >= 0) & self._shown[image]

    def _taken(self, rows: NDArray[np.int64], copies: list[int]) -> tuple[Example, ...]:
        shown = self._scores.select(["uri", "etag", "score", "action", "top_prompt", "frame"]).take(pa.array(rows, pa.int64()))
        looks = self._looks(self._image[rows])
        return tuple(
            Example(**row, **look, copies=count) for row, look, count in zip(shown.to_pylist(), looks, copies, strict=True)
        )

    def _looks(self, images: NDArray[np.int64]) -> list[dict[str, Any]]:
        names = [name for name in ("pdq", "pdq_quality") if name in self._decisions.column_names]
        rows = self._decisions.select(["sha256", *names]).take(pa.array(images)).to_pylist()
        return [
            {"digest": (row.pop("sha256") or "")[:DIGEST], **row, "critical": critical}
            for row, critical in zip(rows, self.critical[images].tolist(), strict=True)
        ]


def _places(values: pa.ChunkedArray, among: pa.Array) -> NDArray[np.int64]:
    """The index of each value in `among`; -1 if it is not there."""
    return np.asarray(pc.fill_null(pc.index_in(values, among), -1), np.int64)


def _sample(decisions: pa.Table, critical: NDArray[np.bool_]) -> tuple[CleanExample, ...]:
    """The images with the lowest hashes of run id and URI."""
    decisions = decisions.append_column("critical", pa.array(critical))
    clean = decisions.filter((pc.field("status") == "scored") & ~pc.field("flagged"))
    if not clean.num_rows:
        return ()
    run = hashlib.blake2b(f"{clean['run_id'][0]}\n".encode(), digest_size=8)
    lots = []
    for row, uri in enumerate(clean["uri"].to_pylist()):
        lot = run.copy()
        lot.update(uri.encode())
        lots.append((lot.hexdigest(), row))
    drawn = heapq.nsmallest(SAMPLE, lots)
    rows = clean.select(["uri", "etag", "top_rule", "top_score", "frame", "critical"]).take([row for _, row in drawn])
    return tuple(
        CleanExample(lot, row["uri"], row["etag"], row["top_rule"], row["top_score"], row["frame"] or 0, row["critical"])
        for (lot, _), row in zip(drawn, rows.to_pylist(), strict=True)
    )

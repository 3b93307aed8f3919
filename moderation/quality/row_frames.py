"""Rows of decisions and scores as frames to ask questions about: each condition between columns becomes a column.

Repeated texts become categories, so that a shard takes tens of megabytes, and everything is compared as arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.errors import ErrorCode
from moderation.policy.decision import ACTIONS, Thresholds
from moderation.policy.precedence import Precedence
from moderation.policy.schema import Policy
from moderation.quality.facts import ExpectedRows

DECISION_COLUMNS = (
    "run_id", "uri", "etag", "status", "error_code", "error_detail", "retryable", "format", "width", "height", "frames",
    "sha256", "action", "flagged", "flags", "shadow_flags", "top_rule", "top_score", "top_threshold", "near_threshold",
    "policy_hash", "model_fingerprint", "scored_at",
)  # fmt: skip
SCORE_COLUMNS = ("run_id", "uri", "rule", "score", "similarity", "review", "block", "action")
LIST_COLUMNS = ("overridden", "list_matches")
"""Looked at where the policy has hash lists."""
DICTIONARIES = (
    "run_id", "status", "error_code", "format", "action", "top_rule", "policy_hash", "model_fingerprint", "rule", "uri",
)  # fmt: skip
"""Columns whose texts repeat, in `scores` at least."""

_STATUS = ("scored", "error")
_ACTIONS = tuple(a.value for a in ACTIONS)


@dataclass(frozen=True)
class Frames:
    """What is asked about."""

    decisions: pd.DataFrame
    scores: pd.DataFrame


def row_frames(decisions: pa.Table, scores: pa.Table, expected: ExpectedRows) -> Frames:
    """Decisions [N] and scores [M] of some shards as frames of the same lengths. Columns not asked about are not looked at."""
    evidence = _Evidence(decisions["uri"], scores, expected)
    return Frames(_decision_frame(decisions, evidence, expected), _score_frame(scores, evidence))


class _Evidence:
    """Scores by object and rule."""

    def __init__(self, uris: pa.ChunkedArray, scores: pa.Table, expected: ExpectedRows) -> None:
        self.rules = expected.policy.active_rules
        self.ids = [rule.id for rule in self.rules]
        self.thresholds = Thresholds.of(self.rules, expected.policy.near)
        self.live = self.thresholds.live
        self.object = _index(scores["uri"], _plain(uris))
        self.rule = _index(scores["rule"], pa.array(self.ids, pa.string()))
        self.score = _floats(scores["score"])
        self.known = (self.object >= 0) & (self.rule >= 0)
        objects, rules = self.object[self.known], self.rule[self.known]
        shape = len(uris), len(self.ids)
        matrix, present = np.full(shape, np.nan, np.float32), np.zeros(shape, np.bool_)
        matrix[objects, rules], present[objects, rules] = self.score[self.known], True
        first = _index(_plain(uris), _plain(uris))  # two rows of one object have the same evidence
        self.matrix, self.present = matrix[first], present[first]
        with np.errstate(invalid="ignore"):
            self.actions = self.thresholds.actions(self.matrix)
            self.near = self.thresholds.close(self.matrix)


class _Listed:
    """What the policy's hash lists should make of N decision rows, by the matches that these name."""

    def __init__(
        self, table: pa.Table, evidence: _Evidence, unscored: NDArray[np.int8], error: NDArray[np.bool_], policy: Policy
    ) -> None:
        lists = policy.active_lists
        self.ids = [one.id for one in lists]
        count = len(error)
        matched = np.zeros((count, len(lists)), np.bool_)
        self.known: NDArray[np.bool_] = np.ones(count, np.bool_)
        """[N] whether all matches are with lists of the policy, within their distance, and each once"""
        if lists:
            column = _whole(table["list_matches"])
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
            rows, named = np.repeat(np.arange(count), lengths), column.flatten()
            number = _index(named.field("list"), pa.array(self.ids, pa.string()))
            near = named.field("distance").to_numpy() <= np.array([one.reach for one in lists])[number]
            matched[rows[number >= 0], number[number >= 0]] = True
            self.known[rows[(number < 0) | ~near]] = False
            self.known &= matched.sum(axis=1) == lengths
        precedence = Precedence(lists)
        asked = np.where(evidence.live, evidence.actions, 0).astype(np.int8)
        scored, not_scored = (
            precedence.decide(asked, evidence.thresholds.severity, matched),
            precedence.decide_unscored(unscored, matched),
        )
        self.action = np.where(error, not_scored.action, scored.action)
        self.by_list = np.where(error, not_scored.by_list, scored.by_list)
        self.acting, self.shadow, self.overridden = scored.acting, scored.shadow, scored.overridden


def _decision_frame(table: pa.Table, evidence: _Evidence, expected: ExpectedRows) -> pd.DataFrame:
    error = _index(table["status"], pa.array(_STATUS)) == _STATUS.index("error")
    action = _index(table["action"], pa.array(_ACTIONS))
    policy, code = expected.policy, ErrorCode.UNSUPPORTED_FORMAT.value
    unsupported = _index(table["error_code"], pa.array([code])) == 0
    unscored = np.where(unsupported, _ACTIONS.index(policy.action_on_error(code)), _ACTIONS.index(policy.action_on_error(None)))
    listed = _Listed(table, evidence, unscored.astype(np.int8), error, policy)
    ids, acts = [*evidence.ids, *listed.ids], evidence.actions > 0
    acting = np.hstack([acts & evidence.live & ~listed.overridden, listed.acting])
    flags = _flags_match(table["flags"], acting, ids)
    flags &= _flags_match(table["shadow_flags"], np.hstack([acts & ~evidence.live, listed.shadow]), ids)
    if listed.ids:
        flags &= _flags_match(table["overridden"], listed.overridden, evidence.ids)
    return pd.DataFrame(
        {
            "uri": _texts(table["uri"]),
            "etag": _texts(table["etag"]),
            **{name: _category(table[name]) for name in ("status", "action")},
            **{name: _identity(table[name]) for name in ("run_id", "policy_hash", "model_fingerprint")},
            "scored_at": table["scored_at"].to_pandas(),
            "error_complete": _error_complete(table, error),
            "scored_complete": error | _all_valid(table, ("format", "width", "height", "frames", "sha256")),
            "scores_complete": np.where(error, ~evidence.present.any(axis=1), evidence.present.all(axis=1)),
            "action_matches": action == listed.action,
            "flags_match": flags & (_flags(table["flagged"]) == acting.any(axis=1)),
            "top_rule_matches": _top_rule_matches(table, evidence, error, listed),
            "lists_known": listed.known,
            "near_matches": _flags(table["near_threshold"]) == (~error & evidence.near),
        }
    )


def _score_frame(table: pa.Table, evidence: _Evidence) -> pd.DataFrame:
    bounded = np.array([rule.score.facts.low >= 0 for rule in evidence.rules], np.bool_)[evidence.rule]
    review, block = _floats(table["review"]), _floats(table["block"])
    stated = np.where(evidence.score >= block, 2, np.where(evidence.score >= review, 1, 0))  # null is NaN, which none reaches
    own = evidence.thresholds
    thresholds = _same(review, own.review[evidence.rule]) & _same(block, own.block[evidence.rule])
    return pd.DataFrame(
        {
            "uri": _category(table["uri"]),
            "rule": _category(table["rule"]),
            "run_id": _identity(table["run_id"]),
            # Great Expectations looks at numbers one by one, in Python, unless they are float64.
            "score": evidence.score.astype(np.float64),
            "bounded_score": np.where(bounded, evidence.score, np.nan).astype(np.float64),
            "similarity": _floats(table["similarity"]).astype(np.float64),
            "expected": evidence.known,
            "thresholds_match": thresholds | ~evidence.known,
            "action_matches": _index(table["action"], pa.array(_ACTIONS)) == stated,
        }
    )


def _error_complete(table: pa.Table, error: NDArray[np.bool_]) -> NDArray[np.bool_]:
    codes = [code.value for code in ErrorCode]
    code = _index(table["error_code"], pa.array(codes))
    may_pass = np.array([c.retryable for c in ErrorCode], np.bool_)[code]
    retryable = _flags(table["retryable"])
    detail = np.asarray(pc.fill_null(pc.greater(pc.utf8_length(_plain(table["error_detail"])), 0), fill_value=False))
    none = ~_valid(table["error_code"]) & ~_valid(table["error_detail"]) & ~retryable
    return np.where(error, (code >= 0) & detail & (retryable == may_pass), none)


def _flags_match(column: pa.ChunkedArray, acts: NDArray[np.bool_], ids: Sequence[str]) -> NDArray[np.bool_]:
    """Bool [N]: whether lists of rule ids name just the rules that act [N, R], each once."""
    lists = _whole(column)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lists)), lengths)
    rules = _index(lists.flatten(), pa.array(ids, pa.string()))
    named = np.zeros_like(acts)
    named[rows[rules >= 0], rules[rules >= 0]] = True
    match: NDArray[np.bool_] = (named == acts).all(axis=1) & (lengths == acts.sum(axis=1))
    return match


def _top_rule_matches(table: pa.Table, evidence: _Evidence, error: NDArray[np.bool_], listed: _Listed) -> NDArray[np.bool_]:
    top = _index(table["top_rule"], pa.array(evidence.ids, pa.string()))
    no_score = ~_valid(table["top_score"]) & ~_valid(table["top_threshold"])
    none = ~_valid(table["top_rule"]) & no_score
    by_list = no_score & (_index(table["top_rule"], pa.array(listed.ids, pa.string())) == listed.by_list)
    if not evidence.live.any():
        return np.where(listed.by_list >= 0, by_list, none)
    rows = np.arange(len(top))
    own, threshold = evidence.matrix[rows, top], evidence.thresholds.deciding(evidence.actions)[rows, top]
    stated = (_floats(table["top_score"]) == own) & (_floats(table["top_threshold"]) == threshold)
    may = evidence.live[top] & ~listed.overridden[rows, top]
    decided = (top >= 0) & may & (evidence.actions[rows, top] == listed.action) & stated
    return np.where(listed.by_list >= 0, by_list, np.where(error, none, decided))


def _all_valid(table: pa.Table, names: Sequence[str]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.logical_and.reduce([_valid(table[name]) for name in names])
    return found


def _valid(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.is_valid(column))


def _flags(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(column, fill_value=False))


def _floats(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Numbers as float32; null is NaN."""
    return np.asarray(column.to_numpy(), np.float32)


def _same(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Equal, or `a` without a value where `b` is infinite."""
    found: NDArray[np.bool_] = (a == b) | (np.isnan(a) & np.isinf(b))
    return found


def _index(column: pa.ChunkedArray | pa.Array, values: pa.Array) -> NDArray[np.int64]:
    """The index of each text in `values`; -1 if it is not there."""
    if pa.types.is_dictionary(column.type):
        codes, texts = _codes(column)
        place = _index(texts, values)
        return np.where(codes >= 0, place[codes], -1) if len(place) else np.full(len(codes), -1)
    return np.asarray(pc.fill_null(pc.index_in(column, value_set=values), -1), np.int64)


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """Texts as indexes into the different ones; -1 for null."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = _whole(column.unify_dictionaries() if isinstance(column, pa.ChunkedArray) else column)
    return np.asarray(pc.fill_null(whole.indices, -1), np.int64), whole.dictionary


def _category(column: pa.ChunkedArray) -> pd.Categorical:
    codes, texts = _codes(column)
    return pd.Categorical.from_codes(codes, categories=texts.to_pandas())


def _identity(column: pa.ChunkedArray) -> pd.Categorical:
    """Texts that must be one and the same; null is a text of its own, for sets are not asked about nulls."""
    return _category(pc.fill_null(_plain(column), "null"))


def _texts(column: pa.ChunkedArray) -> pd.Series:
    texts: pd.Series = _plain(column).to_pandas()
    return texts


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Texts as one array, without dictionary."""
    return _whole(column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column)


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )

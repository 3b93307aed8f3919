"""Every check by name: what it means and what to do when it fails. `docs/quality.md` has the details."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from moderation.policy.score_kind import ScoreKind

Level = Literal["rows", "run"]


@dataclass(frozen=True, slots=True)
class About:
    """One check in words."""

    level: Level
    """rows: every row of every shard is looked at; run: the sums are"""
    description: str
    """what holds if all is well"""
    hint: str
    """what to do if it does not, in one line"""


_BUG = "this program does not write such rows: keep the quarantined files and report a bug"
_AGAIN = "a file was partially written, or changed by something else: run again, and check the output's storage"
_MODEL = "the model's numbers are unusable: check its weights, the precision and the device"

SIGNED_KINDS = " and ".join(kind for kind in ScoreKind if kind.facts.low < 0)
"""The kinds of scores that can be negative."""

CATALOGUE: Mapping[str, About] = {
    "shard_files_whole": About("rows", "every file of every shard exists and has the expected rows", _AGAIN),
    "shard_objects_planned": About("rows", "the rows match the planned objects and versions: none missing, none extra", _AGAIN),
    "decision_uri_unique": About("rows", "one decision row per object", _AGAIN),
    "decision_columns_present": About("rows", "`uri`, `etag`, `status`, `action` and `scored_at` are never null", _BUG),
    "row_identity": About(
        "rows",
        "every row has the run's own `run_id`, `policy_hash` and `model_fingerprint`",
        "it contains files of another run, policy or model: make sure that no two runs share a run id, and run again",
    ),
    "decision_values_known": About("rows", "`status` is scored or error, `action` is allow, review or block", _BUG),
    "decision_error_complete": About(
        "rows", "error rows have a known code, a detail and the code's `retryable`; scored rows have none of these", _BUG
    ),
    "decision_scored_complete": About("rows", "scored rows have format, width, height, frames and SHA-256", _BUG),
    "decision_action_matches": About(
        "rows",
        "`action` is the strongest of the live rules, by their scores; on error, the policy's `unreadable` or `unsupported`",
        _BUG,
    ),
    "decision_flags_match": About(
        "rows", "`flagged`, `flags` and `shadow_flags` are the rules whose scores reach a threshold", _BUG
    ),
    "decision_top_rule_matches": About("rows", "`top_rule` decided, `top_score` and `top_threshold` are its own", _BUG),
    "decision_near_matches": About(
        "rows", "`near_threshold` says whether a live rule's score lies within the policy's `near` of a threshold", _BUG
    ),
    "score_key_unique": About("rows", "one score row per object and rule", _AGAIN),
    "score_rows_complete": About("rows", "every scored object has a score under every active rule, and no others", _AGAIN),
    "score_present": About("rows", "`score` and `similarity` are never null or NaN", _MODEL),
    "score_range": About("rows", f"`score` is between 0 and 1; for {SIGNED_KINDS} rules, between -1 and 1", _MODEL),
    "similarity_range": About("rows", "`similarity` is between -1 and 1", _MODEL),
    "score_thresholds_match": About("rows", "`review` and `block` are the policy's thresholds", _BUG),
    "score_action_matches": About("rows", "`action` follows from score and thresholds", _BUG),
    "accounting": About(
        "run",
        "listed = unchanged + scored + errored",
        "objects were lost or counted twice: resume with the same --run-id; if that does not help, report a bug",
    ),
    "rows_counted": About("run", "the files have as many rows as objects were processed", _AGAIN),
    "shards_complete": About(
        "run", "every planned shard is staged, and no other", "shards are missing: resume with the same --run-id"
    ),
    "empty_run": About(
        "run",
        "something was listed, and something could be scored",
        "check that the source is the right one, and look at the error rows: error_code says what is wrong",
    ),
    "error_rate": About(
        "run",
        "few objects could not be scored",
        "group the error rows by error_code: storage and access errors are temporary, corrupt files come from the source; "
        "raise checks.error_rate.limit if this is normal here",
    ),
    "flood": About(
        "run",
        "most images are not blocked",
        "look at the report's top images: an attack, a faulty rule or a wrong model; if the results are right, release the run",
    ),
    "review_flood": About(
        "run",
        "most images are not sent to people",
        "look at the report's top images: a threshold far too low (`review: 0`), a faulty rule or a wrong model; "
        "if people can review that many, release the run",
    ),
    "constant_scores": About(
        "run",
        "a rule's scores differ between images",
        "the model sees no difference between images: check its weights and the device, and that the images differ",
    ),
    "flag_rate": About(
        "run",
        "each rule flags about the same share of images as in the last runs",
        "look at the rule's images in the report: a flood, a broken model or a changed rule; if the results are "
        "right, release the run",
    ),
    "drift": About(
        "run",
        "each rule's scores are distributed as in the last runs of this policy and model",
        "compare the rule's histograms in both runs: new kinds of images, another camera, or preprocessing that changed",
    ),
}

"""`summary.json`: what the page says, for machines. Pure."""

import json
from collections.abc import Sequence
from typing import Any

from moderation.measures.rates import Rate
from moderation.policy.schema import Policy
from moderation.report.changes import flags_of, last_run
from moderation.report.notices import failing, warning
from moderation.report.reviewed_rules import Reviewed
from moderation.results.check_results import CheckResult
from moderation.results.history import EarlierRun, in_numbers
from moderation.results.manifest import Manifest


def summary(manifest: Manifest, policy: Policy, earlier: Sequence[EarlierRun] = (), reviewed: Reviewed | None = None) -> bytes:
    """A JSON object in ASCII. Keys are stable: new ones may be added, but none is removed or changes its meaning.

    - `run_id`, `state` ("published", "quarantined"), `sources` (URIs), `started_at`, `published_at` (ISO 8601, UTC)
    - `counts`: `listed`, `unchanged`, `repeated`, `scored`, `errored`, `blocked`, `review`, `to_review`
      (`review` and unreadable images that people get), `allowed`, `near_threshold`
    - `rates`, in 0 to 1, null where there is nothing to divide by: `error` (of images processed), `blocked`, `review`,
      `flagged` and `near_threshold` (of scored ones)
    - `rules`, by rule id, those that are scored: `category`, `severity`, `mode`, `review` and `block` (thresholds or null),
      `flagged`, `rate`; of a shadow rule, what it would have flagged
    - `lists`, by id, the hash lists that are matched: `category`, `severity`, `mode`, `action`, `matched` (images on it)
    - `errors`: count by error code
    - `previous`: the run that the page compares with, or null: `run_id`, `started_at`, `same_policy`, `same_model`, `counts`,
      `rates`, and `flagged` by rule id, null where that run may not have known the rule
    - `timings`: `wall_seconds`, `images_per_second`, `busy_seconds` by stage; `bottleneck`: a stage
    - `checks`: `passed`, a count; `failed` and `warned`, lists of `name`, `description`, `observed`, `limit`, `unexpected`
      and `hint`
    - `reviews`: null, or what people said about images that earlier runs flagged: `days`, and by rule id `flagged`, `judged`,
      `overturned`, `precision` and `blocked_precision` with `value` (null if unknown), `low` and `high`, and `below`: which of
      these two lie clearly below their limit
    - `policy`: `name`, `version`, `hash`; `model`: `name`, `fingerprint`; `device`
    - `report`: path of the page, relative to the output
    """
    now, before = in_numbers(manifest), last_run(earlier)
    content = {
        "run_id": manifest.run_id,
        "state": manifest.state,
        "sources": list(manifest.sources),
        "started_at": manifest.started_at.isoformat(),
        "published_at": manifest.published_at.isoformat(),
        "counts": {**_counts(now), "repeated": manifest.repeated},
        "rates": _rates(now),
        "rules": _rules(now, policy),
        "lists": _lists(manifest, policy),
        "errors": dict(manifest.counts.errored),
        "previous": before and _previous(now, before, policy),
        "timings": {
            "wall_seconds": manifest.timings.wall_seconds,
            "images_per_second": manifest.timings.images_per_second,
            "busy_seconds": dict(manifest.timings.busy_seconds),
        },
        "bottleneck": manifest.timings.bottleneck,
        "checks": {
            "failed": [_check(c) for c in failing(manifest)],
            "warned": [_check(c) for c in warning(manifest)],
            "passed": sum(c.passed for c in manifest.checks),
        },
        "reviews": reviewed and _reviews(reviewed),
        "policy": {"name": manifest.policy, "version": manifest.policy_version, "hash": manifest.policy_hash},
        "model": {"name": manifest.model, "fingerprint": manifest.model_fingerprint},
        "device": manifest.device,
        "report": manifest.report,
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode("ascii")


def _counts(run: EarlierRun) -> dict[str, int]:
    names = ("listed", "unchanged", "scored", "errored", "blocked", "review", "to_review", "allowed", "near_threshold")
    return {name: getattr(run, name) for name in names}


def _rates(run: EarlierRun) -> dict[str, float | None]:
    return {
        "error": _rate(run.errored, run.processed),
        "blocked": _rate(run.blocked, run.scored),
        "review": _rate(run.review, run.scored),
        "flagged": _rate(run.blocked + run.review, run.scored),
        "near_threshold": _rate(run.near_threshold, run.scored),
    }


def _rules(now: EarlierRun, policy: Policy) -> dict[str, dict[str, Any]]:
    return {
        rule.id: {
            "category": rule.category,
            "severity": rule.severity.value,
            "mode": rule.mode.value,
            "review": rule.review,
            "block": rule.block,
            "flagged": now.flagged.get(rule.id, 0),
            "rate": _rate(now.flagged.get(rule.id, 0), now.scored),
        }
        for rule in policy.active_rules
    }


def _lists(manifest: Manifest, policy: Policy) -> dict[str, dict[str, Any]]:
    return {
        one.id: {
            "category": one.category,
            "severity": one.severity.value,
            "mode": one.mode.value,
            "action": one.action.value,
            "matched": manifest.counts.matched.get(one.id, 0),
        }
        for one in policy.active_lists
    }


def _previous(now: EarlierRun, before: EarlierRun, policy: Policy) -> dict[str, Any]:
    return {
        "run_id": before.run_id,
        "started_at": before.started_at.isoformat(),
        "same_policy": before.policy_hash == now.policy_hash,
        "same_model": before.model_fingerprint == now.model_fingerprint,
        "counts": _counts(before),
        "rates": _rates(before),
        "flagged": {rule.id: flags_of(before, rule.id, now.policy_hash) for rule in policy.active_rules},
    }


def _reviews(reviewed: Reviewed) -> dict[str, Any]:
    return {
        "days": reviewed.limits.days,
        "rules": {
            rule.rule: {
                "flagged": rule.flagged,
                "judged": rule.judged,
                "overturned": rule.overturned,
                "precision": _interval(rule.precision),
                "blocked_precision": _interval(rule.blocked_precision),
                "below": [low.key for low in reviewed.below if low.rule == rule.rule],
            }
            for rule in reviewed.rules
        },
    }


def _interval(found: Rate) -> dict[str, float | None]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _check(check: CheckResult) -> dict[str, Any]:
    result: dict[str, Any] = check.model_dump(
        mode="json", include={"name", "description", "observed", "limit", "unexpected", "hint"}
    )
    return result


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None

"""The files of a learned head: the head, and beside it what speaks for it. The same input gives the same bytes."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from moderation.policy_files.head_files import head_bytes
from moderation.studies.learning.learn import Lesson

_POINTS = 100
"""Of a curve."""
_DIGITS = 6


def head_file(lesson: Lesson) -> tuple[str, bytes]:
    """The name of a head's file, `<rule>-<hash>.safetensors`, and its content."""
    line, calibration = lesson.fitted.line, lesson.fitted.calibration
    scale, shift = (1.0, 0.0) if calibration.knots is not None else (calibration.a, calibration.b)
    tensors = {
        "weight": (scale * line.weight).astype(np.float32)[None, :],
        "bias": np.array([scale * line.bias + shift], np.float32),
    }
    if calibration.knots is not None:
        logits, probabilities = calibration.knots
        tensors |= {"knots.logit": logits.astype(np.float32), "knots.probability": probabilities.astype(np.float32)}
    metadata = {
        "made_by": "moderate policy learn",
        "rule": lesson.rule.id,
        "model": lesson.model,
        "model_fingerprint": lesson.fingerprint,
        "prevalence": repr(lesson.sample.prevalence),
        "true_labels": str(lesson.sample.positives),
        "false_labels": str(lesson.sample.negatives),
        "labels_sha256": lesson.labels_digest,
    }
    data = head_bytes(tensors, metadata)
    return f"{lesson.rule.id}-{hashlib.sha256(data).hexdigest()[:12]}.safetensors", data


def evidence(lesson: Lesson) -> dict[str, Any]:
    """What the JSON beside a head says: plain numbers, rounded to six digits."""
    sample, compared, growth = lesson.sample, lesson.comparison, lesson.learning_curve
    name, data = head_file(lesson)
    keep = np.unique(np.linspace(0, len(lesson.curve.thresholds) - 1, _POINTS).round().astype(int))
    columns = {"threshold": lesson.curve.thresholds.astype(np.float64)}
    for key, estimate in (("precision", lesson.curve.precision), ("recall", lesson.curve.recall)):
        columns |= {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
    found = {
        "file": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "rule": lesson.rule.id,
        "model": lesson.model,
        "model_fingerprint": lesson.fingerprint,
        "labels_sha256": lesson.labels_digest,
        "true_labels": sample.positives,
        "false_labels": sample.negatives,
        "groups": lesson.fitted.groups,
        "folds": lesson.fitted.task.count,
        "prevalence": {"value": sample.prevalence, "basis": sample.basis, "interval": sample.prevalence_interval()},
        "pulled_towards_texts": lesson.fitted.task.direction is not None,
        "strength": None if np.isinf(lesson.fitted.strength) else lesson.fitted.strength,
        "calibration": {"method": lesson.fitted.calibration.method, "expected_error": lesson.fitted.calibration_error},
        "comparison": {
            "verdict": compared.verdict,
            "auc": asdict(compared.auc),
            "rule_auc": asdict(compared.rule_auc),
            "gain": asdict(compared.gain),
            "average_precision": asdict(compared.precision),
            "rule_average_precision": asdict(compared.rule_precision),
        },
        "learning_curve": {
            "points": [asdict(point) for point in growth.points],
            "expected_with_100_more": growth.expected,
        },
        "suggested": {one.key: asdict(one) for one in lesson.suggestions},
        "curve": {name: values[keep].tolist() for name, values in columns.items()},
        "remarks": list(lesson.remarks),
    }
    rounded: dict[str, Any] = _rounded(found)
    return rounded


def evidence_file(lesson: Lesson) -> bytes:
    """The same as JSON."""
    return (json.dumps(evidence(lesson), indent=1, allow_nan=False, sort_keys=True) + "\n").encode()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value

"""What `moderate policy tune` prints: a table per rule with what its thresholds do, and what the labels do not show."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.studies.tuning import tune_text
from moderation.studies.tuning.thresholds import Point, Unreachable
from moderation.studies.tuning.tune import RuleTuning, Tuning

SHOWN = 20
"""Maximum number of lines about labels."""
_CURVE_POINTS = 200
_OUT = Console(highlight=False)
_ERR = Console(stderr=True, highlight=False)


def show_tuning(found: Tuning) -> None:
    """Everything, rule by rule."""
    file = found.labels
    _line(f"policy {found.policy.policy} {found.policy.version} ({found.policy.hash}), model {found.model} {found.fingerprint}")
    window = f", last modified {found.first_day} to {found.last_day}" if found.first_day else ""
    _line(f"{file.rows:,} labels in {file.name}; {found.images:,} images with scores{window}")
    _show_remarks(tune_text.label_remarks(found))
    for one in found.rules:
        _rule(one)
    if found.whole is not None:
        whole = found.whole
        _heading("the whole policy", f"{whole.positives:,} true and {whole.negatives:,} false labels for any live rule")
        for name, point in (("as it is", whole.now), ("tuned", whole.tuned)):
            if point is not None:
                _line(f"{name}: precision {tune_text.ranged(point.precision)}, recall {tune_text.ranged(point.recall)}")
        _notes((), whole.remarks)
    if not found.rules and found.whole is None:
        _line("no labels can be used to choose a threshold")


def print_json(found: Tuning) -> None:
    """The same as one JSON object. ASCII only, so that no name can harm the terminal."""
    content = {
        "policy": found.policy.policy,
        "version": found.policy.version,
        "hash": found.policy.hash,
        "model": found.model,
        "model_fingerprint": found.fingerprint,
        "target": asdict(found.target) if found.target else None,
        "images": found.images,
        "days": found.days,
        "first_day": found.first_day,
        "last_day": found.last_day,
        "labels": {
            "file": found.labels.name,
            "rows": found.labels.rows,
            "open": found.labels.open,
            "remarks": [asdict(remark) for remark in found.labels.remarks],
        },
        "unusable": dict(found.unusable),
        "unlabelled": list(found.unlabelled),
        "whole_policy": asdict(found.whole) if found.whole else None,
        "rules": [_as_json(one) for one in found.rules],
    }
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def show_written(paths: Sequence[Path]) -> None:
    """The paths of written files; on stderr, so that `--json` stays JSON."""
    for path in paths:
        _ERR.print(f"written: {visible(str(path))}", markup=False, soft_wrap=True)


def _rule(one: RuleTuning) -> None:
    _heading(one.rule.id, f"{tune_text.counts(one.sample)}; {tune_text.basis(one.sample)}")
    if headline := tune_text.headline(one):
        _line(headline, "bold")
    area = one.area
    _line(f"average precision {area.value:.3f} ({area.low:.3f} to {area.high:.3f})")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("threshold", "value", "precision", "recall", "images/day", "to review/day"):
        justify: Literal["left", "right"] = "right" if column == "value" or column.endswith("/day") else "left"
        table.add_column(column, justify=justify, overflow="fold")
    for name, cells in tune_text.rows(one):
        table.add_row(name, *cells, style="bold" if name.endswith(("tuned", "closest")) else "")
    _OUT.print(table)
    for text in (tune_text.outcome(one), tune_text.after(one)):
        if text:
            _line(text, "red" if isinstance(one.found, Unreachable) else "bold")
    _notes(one.doubts, one.remarks)


def _notes(doubts: Sequence[str], remarks: Sequence[str]) -> None:
    for doubt in doubts:
        _line(f"! {doubt}", "yellow")
    for remark in remarks:
        _line(f"- {remark}")


def _show_remarks(lines: Sequence[str]) -> None:
    for text in lines[:SHOWN]:
        _line(f"! {text}", "yellow")
    if len(lines) > SHOWN:
        _line(f"! ... and {len(lines) - SHOWN:,} more lines: --json prints all", "yellow")


def _heading(name: str, about: str) -> None:
    _line("")
    _line(name, "bold")
    _line(about)


def _as_json(one: RuleTuning) -> dict[str, Any]:
    sample, found = one.sample, one.found
    keep = np.unique(np.linspace(0, len(one.curve.thresholds) - 1, _CURVE_POINTS).round().astype(int))
    columns = {"threshold": one.curve.thresholds.astype(np.float64)}
    for name, estimate in (("precision", one.curve.precision), ("recall", one.curve.recall)):
        columns |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {
        "rule": one.rule.id,
        "for": one.key,
        "true": sample.positives,
        "false": sample.negatives,
        "basis": sample.basis,
        "prevalence": sample.prevalence,
        "prevalence_interval": sample.prevalence_interval(),
        "average_precision": asdict(one.area),
        "now": {key: _point(one, point) for key, point in one.now},
        "reached": None if found is None else not isinstance(found, Unreachable),
        "chosen": _point(one, one.chosen) if one.chosen else None,
        "found": asdict(found) if found else None,
        "doubts": list(one.doubts),
        "remarks": list(one.remarks),
        "curve": {name: [round(float(value), 6) for value in values[keep]] for name, values in columns.items()},
    }


def _point(one: RuleTuning, point: Point) -> dict[str, Any]:
    at = point.threshold
    return {**asdict(point), "images_per_day": one.flagged_per_day(at), "reviews_per_day": one.reviews_per_day(at)}


def _line(text: str, style: str = "") -> None:
    _OUT.print(visible(text), markup=False, soft_wrap=True, style=style)

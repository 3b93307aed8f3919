"""What `moderate reviews stats` and `moderate reviews agreement` print."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import typer
from rich import box
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.console.queues import backlog_json, backlog_table, left_out_text
from moderation.console.terminal import print_whole
from moderation.measures import measure_text
from moderation.measures.reviewers import Agreements, GoldenResult, Throughput
from moderation.measures.rule_measures import Measures
from moderation.queues.backlog import Backlog

_DAYS = 20
"""Rows of what people did each day; `--json` has all."""


@dataclass(frozen=True)
class Statistics:
    """What `moderate reviews stats` shows."""

    backlogs: tuple[Backlog, ...]
    left_out: int
    """images in review that no queue asks about"""
    measures: Measures
    throughput: tuple[Throughput, ...]
    golden: tuple[GoldenResult, ...]


def show_stats(found: Statistics, *, as_json: bool) -> None:
    """Tables of queues, policies, rules and people."""
    if as_json:
        _print_json(
            {
                "queues": [backlog_json(one) for one in found.backlogs],
                "in_no_queue": found.left_out,
                **asdict(found.measures),
                "remarks": list(measure_text.remarks(found.measures)),
                "throughput": [asdict(one) for one in found.throughput],
                "golden": [asdict(one) for one in found.golden],
            }
        )
        return
    _print("waiting", backlog_table(found.backlogs))
    if found.left_out:
        typer.echo(f"! {left_out_text(found.left_out)}")
    _print("policies, with the images that people judged", _policies(found.measures))
    if found.measures.rules:
        _print("rules", _rules(found.measures))
    for remark in measure_text.remarks(found.measures):
        typer.echo(f"! {visible(remark)}")
    if found.throughput:
        _print("reviews by day", _throughput(found.throughput))
    if found.golden:
        _print("known answers", _golden(found.golden))


def show_agreement(found: Agreements, *, as_json: bool) -> None:
    """Tables of rules and pairs."""
    if as_json:
        _print_json(asdict(found))
        return
    if not found.rules:
        typer.echo("no image was judged by two people: set `double_review: 5%` in queues.yaml")
        return
    table = _table("rule", "Krippendorff's alpha", right=("images", "answers"))
    for rule in found.rules:
        alpha = rule.alpha
        table.add_row(visible(rule.rule), measure_text.coefficient(alpha), f"{alpha.images:,}", f"{alpha.answers:,}")
    _print("agreement per rule", table)
    table = _table("reviewers", "Cohen's kappa", right=("same answer", "images and rules"))
    for pair in found.pairs:
        first, second = pair.reviewers
        table.add_row(
            visible(f"{first}, {second}"),
            measure_text.coefficient(pair.kappa),
            f"{100 * pair.same:.1f} %",
            f"{pair.kappa.images:,}",
        )
    _print("agreement per pair", table)


def _policies(measures: Measures) -> Table:
    table = _table("policy", "precision", "recall", right=("in review", "blocked", "allowed"))
    for policy in measures.policies:
        table.add_row(
            visible(measure_text.part(policy.part)),
            measure_text.rate(policy.precision),
            measure_text.rate(policy.recall),
            *(measure_text.images(policy, action) for action in ("review", "block", "allow")),
        )
    return table


def _rules(measures: Measures) -> Table:
    table = _table("rule", "precision", "precision of blocks", "policy", right=("flagged", "judged", "overturned"))
    for rule in measures.rules:
        table.add_row(
            visible(rule.rule),
            measure_text.rate(rule.precision),
            measure_text.rate(rule.blocked_precision),
            visible(measure_text.part(rule.part)),
            f"{rule.flagged:,}",
            f"{rule.judged:,}",
            measure_text.overturned(rule),
        )
    return table


def _throughput(days: Sequence[Throughput]) -> Table:
    table = _table("day", "reviewer", right=("reviews", "images", "seconds each"))
    for one in days[-_DAYS:]:
        seconds = "-" if one.seconds is None else f"{one.seconds:.0f}"
        table.add_row(f"{one.day}", visible(one.reviewer), f"{one.reviews:,}", f"{one.images:,}", seconds)
    return table


def _golden(results: Sequence[GoldenResult]) -> Table:
    table = _table("reviewer", "right", right=("answered",))
    for one in results:
        table.add_row(visible(one.reviewer), measure_text.rate(one.right), f"{one.right.judged:,}")
    return table


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print(title: str, table: Table) -> None:
    typer.echo(title)
    print_whole(table)


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(_finite(content), indent=2, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    """NaN as null."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""What `moderate runs` prints."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.html.text import command
from moderation.report.run_tables import count_rows
from moderation.results.manifest import Manifest
from moderation.results.retention import KEPT_WITH_EMBEDDINGS
from moderation.results.runs import Run
from moderation.storage import Store

SHOWN = 20
"""Maximum number of files to name."""
NARROWEST = 120
"""Characters of a line of the table, which a narrow terminal may wrap but never truncates."""

_OUT = Console()


def show_runs(runs: Sequence[Run], as_json: bool) -> None:
    """One line for each run."""
    if as_json:
        _OUT.print(json.dumps([_as_json(run) for run in runs], indent=1), markup=False, highlight=False, soft_wrap=True)
        return
    if not runs:
        _OUT.print("there are no runs")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("run", "state", "started (UTC)"):
        table.add_column(name, no_wrap=True)
    for name in ("processed", "errors", "blocked", "review", "duration", "images/s", "checks"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(escape(run.run_id), run.state, f"{run.started_at:%Y-%m-%d %H:%M}", *_figures(run.manifest))
    Console(width=max(_OUT.width, NARROWEST)).print(table)


def show_run(run: Run, store: Store) -> None:
    """Details of one run."""
    _line(f"run      {run.run_id}")
    _line(f"state    {run.state}")
    _line(f"started  {run.started_at:%Y-%m-%d %H:%M:%S} UTC")
    for source in run.sources:
        _line(f"source   {visible(source)}")
    manifest = run.manifest
    if manifest is None:
        discard = command("moderate", "runs", "discard", run.run_id, "--results", store.uri.removeprefix("file://"))
        _line(f"to resume it, run the same command again with --run-id {run.run_id}; to remove it: {discard}")
        return
    _line(f"policy   {manifest.policy} {visible(manifest.policy_version)} ({manifest.policy_hash})")
    _line(f"model    {visible(manifest.model)} ({manifest.model_fingerprint}) on {manifest.device}")
    for name, value in count_rows(manifest):
        _line(f"{name:<24}{value:>12}")
    _line(f"{manifest.speed}; bottleneck: {manifest.timings.bottleneck}")
    failed = [check for check in manifest.checks if not check.passed]
    _line(f"checks   {len(manifest.checks) - len(failed)} of {len(manifest.checks)} passed")
    for check in failed:
        _line(f"  {check.severity}  {visible(str(check))}")
    if manifest.release is not None:
        _line(f"released by {visible(manifest.release.by)}: {visible(manifest.release.reason)}")
    if store.exists(manifest.report):
        _line(f"report   {store.uri_of(manifest.report).removeprefix('file://')}")


def shown_keys(keys: Sequence[str]) -> Iterator[str]:
    """Some of many keys, one to a line."""
    yield from (f"  {visible(key)}" for key in keys[:SHOWN])
    if len(keys) > SHOWN:
        yield f"  ... and {len(keys) - SHOWN:,} more"


def pruned_bytes(run: Run, keep_embeddings: bool) -> int:
    """Bytes of Parquet that are removed with a run."""
    files = run.manifest.files if run.manifest else ()
    return sum(entry.bytes for entry in files if not (keep_embeddings and entry.table in KEPT_WITH_EMBEDDINGS))


def size(count: float) -> str:
    """Human-readable bytes: 12.3 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _figures(manifest: Manifest | None) -> tuple[str, ...]:
    if manifest is None:
        return ("",) * 7
    counts, timings = manifest.counts, manifest.timings
    passed = sum(check.passed for check in manifest.checks)
    return (
        f"{counts.scored + counts.errors:,}",
        f"{counts.errors:,}",
        f"{counts.blocked:,}",
        f"{manifest.to_review.images:,}",
        str(timedelta(seconds=round(timings.wall_seconds))),
        f"{timings.images_per_second:,.0f}",
        f"{passed}/{len(manifest.checks)}",
    )


def _as_json(run: Run) -> dict[str, object]:
    manifest = run.manifest
    known: dict[str, object] = {
        "run_id": run.run_id,
        "state": run.state,
        "started_at": run.started_at.isoformat(),
        "sources": list(run.sources),
    }
    if manifest is not None:
        known |= {
            "published_at": manifest.published_at.isoformat() if run.state == "published" else None,
            "policy": manifest.policy,
            "policy_hash": manifest.policy_hash,
            "model_fingerprint": manifest.model_fingerprint,
            "listed": manifest.listed,
            "unchanged": manifest.unchanged,
            "redecided": manifest.redecided,
            "scored": manifest.scored,
            "errored": manifest.errored,
            "blocked": manifest.counts.blocked,
            "review": manifest.counts.review,
            "to_review": manifest.to_review.images,
            "wall_seconds": manifest.timings.wall_seconds,
            "images_per_second": manifest.timings.images_per_second,
            "checks_failed": [check.name for check in manifest.checks if not check.passed],
            "release": manifest.release.model_dump(mode="json") if manifest.release else None,
        }
    return known


def _line(text: str) -> None:
    _OUT.print(text, markup=False, highlight=False, soft_wrap=True)

"""The first page: runs and what became of them, how often rules flag over time, and quarantined runs that wait for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from markupsafe import Markup
from starlette.responses import Response

from moderation.errors import OutputError, PolicyError, SettingsError
from moderation.html.text import number, percent
from moderation.policy.schema import Mode
from moderation.report.trend import points, trend
from moderation.results.history import earlier_runs, in_numbers
from moderation.results.manifest import Manifest
from moderation.results.runs import Run, discard, release
from moderation.results.stored_policy import stored_policy
from moderation.studio.forms import form, required
from moderation.studio.rendering import page
from moderation.studio.studio import Studio

MOST_RUNS = 200
"""Runs in the table, the newest."""
MOST_NAME, MOST_REASON = 200, 2000


@dataclass(frozen=True, slots=True)
class RuleTrend:
    """How often a rule flagged, run by run."""

    rule: str
    shadow: bool
    rate: str
    flagged: int
    chart: Markup | None
    """None with a single run"""


@dataclass(frozen=True, slots=True)
class PolicyTrends:
    """The rules of a policy over its runs on the same sources."""

    manifest: Manifest
    """of the newest"""
    runs: int
    rules: tuple[RuleTrend, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the overview."""

    label: str
    value: str
    note: str
    kind: str = ""
    link: str = ""


def routes(studio: Studio) -> APIRouter:
    """The first page, and what it can do."""
    router = APIRouter()

    @router.get("/")
    def home() -> Response:
        runs = studio.runs()
        manifests = studio.manifests()
        if manifests:
            studio.catalogue()  # it is read while somebody looks at this page
        return page(
            studio,
            "home.html.j2",
            "Runs",
            "/",
            tiles=tiles(manifests, runs),
            quarantined=[run for run in runs if run.state == "quarantined"],
            runs=runs[:MOST_RUNS],
            left_out=max(0, len(runs) - MOST_RUNS),
            trends=trends(studio, manifests),
        )

    @router.post("/runs/{run_id}/release")
    def release_run(run_id: str, fields: Annotated[dict[str, str], Depends(form)]) -> Response:
        run, by, reason = _decided(studio, run_id, fields)
        studio.audit.write("release", run=run.run_id, by=by, reason=reason)
        release(studio.output, run, reason, by)
        studio.runs(fresh=True)
        return Response(headers={"HX-Redirect": "/"})

    @router.post("/runs/{run_id}/discard")
    def discard_run(run_id: str, fields: Annotated[dict[str, str], Depends(form)]) -> Response:
        run, by, reason = _decided(studio, run_id, fields)
        studio.audit.write("discard", run=run.run_id, by=by, reason=reason)
        discard(studio.output, run)
        studio.runs(fresh=True)
        return Response(headers={"HX-Redirect": "/"})

    return router


def _decided(studio: Studio, run_id: str, fields: dict[str, str]) -> tuple[Run, str, str]:
    """The quarantined run, who decides, and why. Raises `SettingsError`."""
    by = required(fields, "by", "your name", MOST_NAME)
    reason = required(fields, "reason", "the reason", MOST_REASON)
    run = next((run for run in studio.runs(fresh=True) if run.run_id == run_id), None)
    if run is None:
        raise SettingsError("there is no such run any more: reload the page")
    if run.state != "quarantined":
        raise SettingsError(f"only a quarantined run can be released or discarded here; {run.run_id} is {run.state}")
    return run, by, reason


def tiles(manifests: Sequence[Manifest], runs: Sequence[Run]) -> tuple[Tile, ...]:
    """The numbers at the top: of the newest published run, and of all."""
    waiting = sum(run.state == "quarantined" for run in runs)
    found = [
        Tile("Published runs", number(len(manifests)), f"{number(len(runs) - len(manifests) - waiting)} unfinished"),
        Tile(
            "Quarantined",
            number(waiting),
            "awaits a decision" if waiting == 1 else "await a decision" if waiting else "none awaits a decision",
            "block" if waiting else "",
        ),
    ]
    if manifests:
        newest = manifests[0]
        counts = newest.counts
        found += [
            Tile("Scored", number(newest.scored), f"in the newest run, {number(newest.errored)} errors"),
            Tile(
                "Blocked",
                number(counts.blocked),
                f"{percent(counts.blocked, newest.scored)} of scored",
                "block",
                "/gallery?action=block",
            ),
            Tile("To review", number(newest.to_review.images), "in the newest run", "review", "/gallery?action=review"),
            Tile(
                "Near a threshold",
                number(counts.near_threshold),
                f"{percent(counts.near_threshold, newest.scored)} of scored",
                "",
                "/gallery?sort=nearest",
            ),
        ]
    return tuple(found)


def trends(studio: Studio, manifests: Sequence[Manifest]) -> list[PolicyTrends]:
    """For each policy its newest run, compared with earlier ones on the same sources."""
    newest: dict[str, Manifest] = {}
    for manifest in manifests:
        newest.setdefault(manifest.policy, manifest)
    return [_trends(studio, manifest, manifests) for manifest in newest.values()]


def _trends(studio: Studio, manifest: Manifest, manifests: Sequence[Manifest]) -> PolicyTrends:
    earlier = earlier_runs(manifests, manifest)
    now = in_numbers(manifest)
    found = []
    for rule, shadow in _rules(studio, manifest).items():
        flagged = now.flagged.get(rule, 0)
        chart = trend(rule, points(rule, now, earlier), "newest run")
        found.append(RuleTrend(rule, shadow, percent(flagged, now.scored), flagged, chart))
    return PolicyTrends(manifest, 1 + len(earlier), tuple(found))


def _rules(studio: Studio, manifest: Manifest) -> dict[str, bool]:
    """The ids of a run's rules in the policy's order, and whether they are shadow rules.

    If the stored policy cannot be read any more: those that the manifest counts.
    """
    try:
        rules = stored_policy(studio.output, manifest).active_rules
        return {rule.id: rule.mode is Mode.SHADOW for rule in rules}
    except (PolicyError, OutputError):
        counts = manifest.counts
        return {rule: rule in counts.shadow for rule in sorted({*manifest.statistics, *counts.flagged, *counts.shadow})}

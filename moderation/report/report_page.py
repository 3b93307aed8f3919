"""The page, from a run's manifest, policy and aggregates. Pure: the same input gives the same text."""

from collections.abc import Sequence
from functools import cache

from jinja2 import Template

from moderation.html import text
from moderation.html.templates import template
from moderation.policy.schema import Policy
from moderation.report import report_views
from moderation.report.changes import last_run
from moderation.report.list_views import list_views
from moderation.report.notices import notices
from moderation.report.reviewed_rules import Reviewed, imprecise
from moderation.report.rule_views import RuleViews, Thumbnails
from moderation.results.aggregates import Aggregates
from moderation.results.history import EarlierRun, in_numbers
from moderation.results.manifest import Manifest


def render(
    manifest: Manifest,
    policy: Policy,
    aggregates: Aggregates,
    thumbnails: Thumbnails,
    earlier: Sequence[EarlierRun] = (),
    data_docs: str | None = None,
    output: str = "OUTPUT",
    reviewed: Reviewed | None = None,
) -> str:
    """One self-contained HTML page.

    Everything from keys and policies is escaped, and characters that would hide something are shown (`text.visible`).
    The page loads nothing and runs nothing: its Content-Security-Policy allows inline styles and data URIs only.

    Args:
        manifest: the run; one whose `state` is "quarantined" says what to do.
        policy: as the run used it.
        aggregates: sums over all shards.
        thumbnails: JPEGs as data URIs, by URI and frame.
        earlier: runs to compare with, newest first (`moderation.results.history.earlier_runs`).
        data_docs: where the Data Docs are, relative to the page.
        output: the URI of the results, for the commands that the page names.
        reviewed: what people said about earlier runs.
    """
    before = last_run(earlier)
    shown = RuleViews(manifest, policy, aggregates, thumbnails, earlier)
    return _template().render(
        manifest=manifest,
        policy=policy,
        notices=(*notices(manifest, output), *imprecise(reviewed)),
        reviewed=reviewed,
        before=before,
        other_identity=_other_identity(manifest, before),
        tiles=report_views.tiles(in_numbers(manifest), before, policy, manifest.redecided),
        rules=shown.rules,
        lists=list_views(manifest, policy, aggregates),
        audit=shown.audit,
        errors=report_views.errors(manifest, aggregates),
        checks=sorted(manifest.checks, key=lambda check: (check.passed, check.severity != "fail")),
        data_docs=data_docs,
        stages=report_views.stages(manifest),
        files=report_views.files(manifest),
        policy_texts={"The policy's full text": manifest.policy_text, **manifest.policy_includes},
    )


def _other_identity(manifest: Manifest, before: EarlierRun | None) -> str:
    """What the run before worked with that this one does not; empty if it was the same."""
    if before is None:
        return ""
    policy = "another version of the policy" if before.policy_hash != manifest.policy_hash else ""
    model = "another model" if before.model_fingerprint != manifest.model_fingerprint else ""
    return " and ".join(filter(None, (policy, model)))


@cache
def _template() -> Template:
    return template(
        "report.html.j2",
        {
            "day": text.day,
            "duration": text.duration,
            "lines": _lines,
            "moment": text.moment,
            "number": text.number,
            "paragraphs": _paragraphs,
            "size": text.size,
            "threshold": text.threshold,
        },
    )


def _lines(content: str) -> list[str]:
    return content.replace("\r\n", "\n").rstrip("\n").split("\n")


def _paragraphs(content: str) -> list[str]:
    return [line.strip() for line in _lines(content) if line.strip()]

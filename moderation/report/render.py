"""The page, from a run's manifest, policy and aggregates. Pure: the same input gives the same text."""

from collections.abc import Mapping
from functools import cache

from jinja2 import Template

from moderation.policy.schema import Policy
from moderation.report import text, views
from moderation.report.templates import template
from moderation.results.aggregates import Aggregates
from moderation.results.manifest import Manifest


def render(manifest: Manifest, policy: Policy, aggregates: Aggregates, thumbnails: Mapping[tuple[str, int], str]) -> str:
    """One self-contained HTML page. `thumbnails`: JPEGs as data URIs, by URI and frame.

    Everything from keys and policies is escaped, and characters that would hide something are shown (`text.visible`).
    The page loads nothing: its Content-Security-Policy allows inline styles and data URIs only.
    """
    checks = sorted(manifest.checks, key=lambda check: (check.passed, check.severity != "fail"))
    return _template().render(
        manifest=manifest,
        policy=policy,
        tiles=views.tiles(manifest, policy),
        rules=views.rules(manifest, policy, aggregates, thumbnails),
        errors=views.errors(manifest, aggregates),
        checks=checks,
        stages=views.stages(manifest),
        files=views.files(manifest),
        policy_lines=_lines(manifest.policy_text),
    )


@cache
def _template() -> Template:
    return template(
        "report.html.j2",
        {
            "duration": text.duration,
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

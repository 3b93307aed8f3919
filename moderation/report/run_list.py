"""The page that lists the reports of a results folder, so that nobody needs to know the names of runs. Pure."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Template

from moderation.html import text
from moderation.html.templates import template
from moderation.results.runs import Run

KEY = "reports/index.html"
"""Where the page lies, relative to the results: beside the folders of the reports."""
MOST = 1_000
"""Runs on the page, the newest."""


def run_list_page(runs: Sequence[Run], results: str) -> str:
    """One self-contained HTML page that loads and runs nothing. `runs`: the newest first."""
    return _template().render(runs=runs[:MOST], left_out=max(0, len(runs) - MOST), results=results)


def report_link(run: Run) -> str:
    """A run's report, relative to the page; empty where it has none."""
    return "" if run.manifest is None else quote(run.manifest.report.removeprefix("reports/"))


@cache
def _template() -> Template:
    filters: dict[str, Callable[..., Any]] = {
        "moment": text.moment,
        "number": text.number,
        "duration": text.duration,
        "link": report_link,
    }
    return template("run_list.html.j2", filters)

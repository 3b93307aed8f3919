"""Fills in the templates of the studio's pages."""

from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Template
from markupsafe import escape
from starlette.responses import HTMLResponse

from moderation.common.safe_text import shortened
from moderation.html import text
from moderation.html.templates import template
from moderation.studio.studio import Studio

TABS = (("/", "Runs"), ("/gallery", "Gallery"), ("/policy", "Policy"), ("/reports", "Reports"))
"""What the bar leads to. A new page gets its place here."""


def page(studio: Studio, name: str, title: str, tab: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page. `tab` is the address of the entry of `TABS` that it belongs to; empty for none."""
    return HTMLResponse(
        _template(name).render(title=title, tab=tab, tabs=TABS, csrf=studio.keys.csrf, results=studio.output.uri, **values),
        status,
    )


def part(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A part of a page, which takes a place in one that is open."""
    return HTMLResponse(_template(name).render(**values), status)


def rendered(name: str, **values: Any) -> str:
    """The text of a part."""
    return _template(name).render(**values)


def address(path: str, **values: object) -> str:
    """A path with a query; values of None are left out."""
    given = {name: value for name, value in values.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


@cache
def _template(name: str) -> Template:
    filters: dict[str, Callable[..., Any]] = {
        "address": address,
        "day": text.day,
        "duration": text.duration,
        "moment": text.moment,
        "number": text.number,
        "percent": text.percent,
        "raw": escape,  # with its line ends, which `visible` would show
        "score": text.score,
        "short": shortened,
        "size": text.size,
        "threshold": text.threshold,
        "quote": lambda value: quote(value, safe=""),
    }
    return template(name, filters, package="moderation.studio")

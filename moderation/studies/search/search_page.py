"""The page of `moderate search --html`: what was found, as a blurred sheet. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Template

from moderation.html import text
from moderation.html.templates import template
from moderation.report.rule_views import ImageView


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that was found."""

    uri: str
    frame: int
    score: float
    action: str
    flags: Sequence[str]
    alike: int


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What the page is made from."""

    query: str
    """the text, or where the image lies"""
    by_image: bool
    results: str
    model: str
    fingerprint: str
    images: int
    """images that were searched"""
    hits: Sequence[Hit]
    where: str | None = None


def render(page: SearchPage, thumbnails: Mapping[tuple[str, int], str], query_image: str | None = None) -> str:
    """One self-contained HTML page that loads and runs nothing.

    `thumbnails`: JPEGs as data URIs, by URI and frame; `query_image`: one of the image that was looked for.
    """
    images = [
        ImageView(
            key=hit.uri,
            uri=hit.uri,
            frame=hit.frame,
            thumbnail=thumbnails.get((hit.uri, hit.frame)),
            score=text.score(hit.score),
            caption=", ".join(hit.flags),
            action=hit.action,
            label="" if hit.action == "allow" else hit.action,
            alike=hit.alike,
            sealed=hit.action == "block",
        )
        for hit in page.hits
    ]
    asked = ImageView(page.query, page.query, 0, query_image, "", "")
    return _template().render(page=page, images=images, asked=asked)


@cache
def _template() -> Template:
    return template("search.html.j2", {"number": text.number})

"""The gallery: all decisions with filters, page after page, and the pictures of images that results name."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from moderation.results.manifest import Manifest
from moderation.studio.catalogue import Page
from moderation.studio.filters import WORDS, Filter
from moderation.studio.paging import Cursor
from moderation.studio.pictures import LARGE, SMALL
from moderation.studio.rendering import address, page, part
from moderation.studio.studio import Studio
from moderation.studio.tiles import Tile, of_row

PATIENCE_S = 1.2
"""Seconds for which a page waits for results that are being read."""
MOST_FRAMES = 1_000_000


def routes(studio: Studio) -> APIRouter:
    """The gallery and the pictures."""
    router = APIRouter()

    @router.get("/gallery")
    def gallery(request: Request) -> Response:
        chosen, _ = asked(request.query_params)
        reading = studio.catalogue()
        if not reading.wait(PATIENCE_S):
            return page(studio, "reading.html.j2", "Gallery", "/gallery", what="Reading the decisions of all runs")
        catalogue = reading.result()
        shown = catalogue.page(chosen)
        return page(
            studio,
            "gallery.html.j2",
            "Gallery",
            "/gallery",
            chosen=chosen,
            orders=WORDS,
            rules=_rules(studio),
            codes=catalogue.codes,
            images=catalogue.images,
            count=catalogue.count(chosen),
            **_tiles(studio, chosen, shown),
        )

    @router.get("/gallery/more")
    def more(request: Request) -> Response:
        chosen, after = asked(request.query_params)
        catalogue = studio.catalogue().result()
        return part("tiles.html.j2", **_tiles(studio, chosen, catalogue.page(chosen, after)))

    @router.get("/pictures")
    def picture(uri: str, frame: int = 0, large: bool = False) -> Response:
        row = studio.catalogue().result().find(uri)
        if row is None or not 0 <= frame <= MOST_FRAMES:
            return PlainTextResponse("the results name no such image\n", 404)
        data = studio.pictures.picture(row.uri, row.etag, frame, LARGE if large else SMALL)
        if data is None:
            return PlainTextResponse("the image cannot be read, or was replaced since it was decided\n", 404)
        return Response(data, media_type="image/jpeg")

    return router


def asked(query: Mapping[str, str]) -> tuple[Filter, Cursor | None]:
    """What the address of a page chooses, and behind which image to go on. Raises `ValidationError`, `SettingsError`."""
    values = dict(query)
    after = values.pop("after", None)
    return Filter.model_validate(values), Cursor.read(after) if after else None


def sources_of(studio: Studio) -> tuple[str, ...]:
    """Folders that names are shown without, if all runs have the same."""
    manifests: list[Manifest] = studio.manifests()
    sources = {manifest.sources for manifest in manifests}
    return next(iter(sources)) if len(sources) == 1 else ()


def _rules(studio: Studio) -> list[str]:
    """Ids of the rules of published runs, as their manifests name them."""
    found: set[str] = set()
    for manifest in studio.manifests():
        found |= {*manifest.statistics, *manifest.counts.flagged, *manifest.counts.shadow}
    return sorted(found)


def _tiles(studio: Studio, chosen: Filter, shown: Page) -> dict[str, Any]:
    sources = sources_of(studio)
    tiles: list[Tile] = [of_row(row, sources) for row in shown.rows]
    onward = None if shown.after is None else address("/gallery/more", **chosen.query, after=str(shown.after))
    return {"tiles": tiles, "onward": onward}

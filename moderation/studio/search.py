"""Searching the stored embeddings by a text or by a picture of one's own."""

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from moderation.errors import SettingsError
from moderation.policy.model_choice import ModelChoice
from moderation.results.archive import Archive
from moderation.results.stored_policy import newest_policy
from moderation.studies.search.nearest import nearest
from moderation.studio.gallery import sources_of
from moderation.studio.rendering import page, part
from moderation.studio.studio import Studio
from moderation.studio.tiles import of_found

FOUND = 120
"""Images shown of a search."""
LONGEST = 500
"""Characters of a text to search for."""


def routes(studio: Studio) -> APIRouter:
    """The page, and what is found, which takes a while."""
    router = APIRouter()

    @router.get("/search")
    def search(q: str = "") -> Response:
        return page(studio, "search_page.html.j2", "Search", "/gallery", q=_text(q))

    @router.get("/search/found")
    def by_text(q: str) -> Response:
        text = _text(q)
        if not text:
            raise SettingsError("say what the images should show, such as: a red car")
        archive, model = _newest(studio)
        return _found(studio, archive, studio.model.text_query(archive, model, text))

    @router.post("/search/picture")
    async def by_picture(request: Request) -> Response:
        data = await request.body()
        if not data:
            raise SettingsError("the picture is empty")
        return await run_in_threadpool(_by_picture, studio, data)

    return router


def _by_picture(studio: Studio, data: bytes) -> Response:
    archive, model = _newest(studio)
    return _found(studio, archive, studio.model.picture_query(archive, model, data))


def _newest(studio: Studio) -> tuple[Archive, ModelChoice]:
    manifests = studio.manifests()
    if not manifests:
        raise SettingsError("no run is published yet")
    archive = studio.archive(manifests[0].model_fingerprint)
    return archive, newest_policy(archive).model


def _found(studio: Studio, archive: Archive, queries: NDArray[np.float64]) -> Response:
    result = nearest(archive, queries, FOUND)
    sources = sources_of(studio)
    tiles = [of_found(one, sources) for one in result.found]
    return part("found.html.j2", tiles=tiles, onward=None, images=result.images)


def _text(q: str) -> str:
    if len(q) > LONGEST:
        raise SettingsError(f"the text to search for is longer than {LONGEST} characters")
    return q.strip()

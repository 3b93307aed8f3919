"""The page of one image: the picture, why it is decided as it is, what earlier runs decided, and what looks like it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.responses import PlainTextResponse, Response

from moderation.authoring.explanation_page import BarView, bar
from moderation.errors import ModerationError, SettingsError
from moderation.html.text import key_of
from moderation.policy.explanation import explain
from moderation.policy.schema import Policy
from moderation.studies.search.nearest import nearest
from moderation.studio.catalogue import Catalogue, Row
from moderation.studio.gallery import sources_of
from moderation.studio.rendering import page, part
from moderation.studio.studio import Studio
from moderation.studio.tiles import of_found

ALIKE = 24
"""Similar images shown."""
MOST_HISTORY = 100


@dataclass(frozen=True, slots=True)
class Why:
    """What a policy says about an image, computed from its stored embeddings; or why that cannot be shown."""

    policy: Policy | None
    bars: tuple[BarView, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What one run decided about the image."""

    run: str
    scored_at: datetime
    action: str
    status: str
    error_code: str | None
    top_rule: str | None
    top_score: float | None
    policy: str
    policy_version: str
    etag: str
    same: bool
    """whether the run saw the same version of the image as the newest decision"""


def routes(studio: Studio) -> APIRouter:
    """The page, and its similar images, which take a while."""
    router = APIRouter()

    @router.get("/image")
    def image(uri: str) -> Response:
        catalogue = studio.catalogue().result()
        row = catalogue.find(uri)
        if row is None:
            raise SettingsError("the results name no such image")
        facts = catalogue.rows("SELECT * FROM decisions WHERE run = ? AND uri = ? LIMIT 1", [row.run, uri])[0]
        return page(
            studio,
            "image.html.j2",
            key_of(sources_of(studio), uri),
            "/gallery",
            row=row,
            facts=facts,
            key=key_of(sources_of(studio), uri),
            why=why(studio, catalogue, row) if row.status == "scored" else None,
            history=history(catalogue, row),
        )

    @router.get("/image/alike")
    def alike(uri: str) -> Response:
        catalogue = studio.catalogue().result()
        row = catalogue.find(uri)
        vectors = None if row is None else _embeddings(catalogue, row)
        if row is None or vectors is None:
            return PlainTextResponse("no embedding of this image is stored\n", 404)
        archive = studio.archive(str(_fingerprint(catalogue, row)))
        doubles = vectors[1].astype(np.float64)
        queries = doubles / np.linalg.norm(doubles, axis=1, keepdims=True)
        found = [one for one in nearest(archive, queries, ALIKE + 1).found if one.uri != uri][:ALIKE]
        sources = sources_of(studio)
        return part("tiles.html.j2", tiles=[of_found(one, sources) for one in found], onward=None)

    return router


def why(studio: Studio, catalogue: Catalogue, row: Row) -> Why:
    """Every rule's score beside its thresholds, under the policy of the newest decision."""
    try:
        decided = studio.decided_by(row.run)
        vectors = _embeddings(catalogue, row)
        if decided is None or vectors is None:
            return Why(None, (), "no embedding of this image is stored, so its scores cannot be explained")
        policy, compiled = decided
        frames, embeddings = vectors
        found = explain(compiled, embeddings, frames, uri=row.uri, etag=row.etag, frame_count=len(frames))
    except ModerationError as error:
        return Why(None, (), str(error))
    return Why(policy, tuple(bar(rule, rule.rule == found.top_rule) for rule in found.rules))


def history(catalogue: Catalogue, row: Row) -> list[Earlier]:
    """What each run decided, the newest first."""
    columns = "run, scored_at, action, status, error_code, top_rule, top_score, policy, policy_version, etag"
    found = catalogue.rows(
        f"SELECT {columns} FROM decisions WHERE uri = ? ORDER BY scored_at DESC, run DESC LIMIT {MOST_HISTORY}",  # noqa: S608
        [row.uri],
    )
    return [Earlier(**values, same=values["etag"] == row.etag) for values in found]


def _embeddings(catalogue: Catalogue, row: Row) -> tuple[list[int], NDArray[np.float16]] | None:
    """The frames' numbers and embeddings [F, D] as they are stored; None if there are none."""
    found = catalogue.rows(
        "SELECT frame, embedding FROM embeddings WHERE run = ? AND uri = ? ORDER BY frame", [row.run, row.uri]
    )
    if not found:
        return None
    return [values["frame"] for values in found], np.array([values["embedding"] for values in found], np.float16)


def _fingerprint(catalogue: Catalogue, row: Row) -> Any:
    return catalogue.rows("SELECT model_fingerprint FROM images WHERE uri = ? LIMIT 1", [row.uri])[0]["model_fingerprint"]

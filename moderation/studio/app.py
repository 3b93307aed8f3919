"""The web app: all pages behind the gate, and what becomes of errors."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from moderation.common.safe_text import visible
from moderation.errors import ModerationError
from moderation.studio import gallery, home, image_page, policy_page, reports, search, static_files
from moderation.studio.gate import BODY_SECONDS, Gate
from moderation.studio.policy_document import ConflictError
from moderation.studio.rendering import page
from moderation.studio.studio import Studio


def app(studio: Studio, body_seconds: float = BODY_SECONDS) -> ASGIApp:
    """The app. `body_seconds`: time in which a request must have arrived."""
    inner = FastAPI(title="clip-moderation studio", docs_url=None, redoc_url=None, openapi_url=None)
    for router in (
        home.routes(studio),
        reports.routes(studio),
        gallery.routes(studio),
        image_page.routes(studio),
        search.routes(studio),
        policy_page.routes(studio),
        static_files.routes(),
    ):
        inner.include_router(router)

    @inner.exception_handler(ModerationError)
    def mistaken(request: Request, error: ModerationError) -> Response:
        return _problem(studio, request, str(error), 409 if isinstance(error, ConflictError) else 400)

    @inner.exception_handler(RequestValidationError)
    @inner.exception_handler(ValidationError)
    def senseless(request: Request, error: RequestValidationError | ValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _problem(studio, request, f"{where}: {first['msg']}", 400)

    @inner.exception_handler(HTTPException)
    def missing(request: Request, error: HTTPException) -> Response:
        return _problem(
            studio, request, "there is no such page" if error.status_code == 404 else str(error.detail), error.status_code
        )

    @inner.exception_handler(Exception)
    def failed(request: Request, _: Exception) -> Response:
        message = "a fault of this program: what is known of it is where the studio was started; please report it"
        return _problem(studio, request, message, 500)

    return Gate(inner, studio.keys, body_seconds)


def _problem(studio: Studio, request: Request, message: str, status: int) -> Response:
    """A page that says what is wrong; plain text for scripts and for parts of pages."""
    wants_page = (
        request.method == "GET" and "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers
    )
    if wants_page:
        return page(studio, "problem.html.j2", "Not possible", "", status, message=message)
    return PlainTextResponse(f"{visible(message)}\n", status)

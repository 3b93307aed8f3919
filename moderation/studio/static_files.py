"""Styles and scripts, read once when the studio starts: no path that a client sends is opened."""

from functools import cache
from importlib import resources

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from moderation.studio.rendering import rendered

SCRIPTS = ("studio.js", "policy.js", "completion.js", "vendor/htmx.js", "vendor/codemirror.js")
_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"


@cache
def files() -> dict[str, tuple[bytes, str]]:
    """Content and type of each, by name."""
    static = resources.files("moderation.studio").joinpath("static")
    found = {name: (static.joinpath(*name.split("/")).read_bytes(), _SCRIPT) for name in SCRIPTS}
    found["studio.css"] = rendered("studio.css").encode(), _STYLE
    found["vendor/LICENSES.txt"] = static.joinpath("vendor", "LICENSES.txt").read_bytes(), "text/plain; charset=utf-8"
    return found


def routes() -> APIRouter:
    """The files by their names."""
    router = APIRouter()
    found_files = files()

    @router.get("/static/{name:path}")
    def static(name: str) -> Response:
        found = found_files.get(name)
        if found is None:
            return PlainTextResponse("there is no such file\n", 404)
        return Response(found[0], headers={"Content-Type": found[1]})

    return router

"""Reports of runs, listed and shown. They are HTML files in storage: the browser shows them in a sandbox that runs nothing."""

from fastapi import APIRouter
from starlette.responses import Response

from moderation.errors import ErrorCode, SettingsError, StorageError
from moderation.results.runs import Run
from moderation.studio.rendering import page
from moderation.studio.studio import Studio

SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""No script, no form, no request, an origin of its own."""
MOST_BYTES = 64 << 20
"""Of a report."""


def routes(studio: Studio) -> APIRouter:
    """The list and the reports."""
    router = APIRouter()

    @router.get("/reports")
    def listed() -> Response:
        return page(
            studio, "reports.html.j2", "Reports", "/reports", runs=[run for run in studio.runs() if run.manifest is not None]
        )

    @router.get("/reports/{run_id}")
    def report(run_id: str) -> Response:
        return _file(studio, run_id, "", "text/html; charset=utf-8")

    @router.get("/reports/{run_id}/summary.json")
    def summary(run_id: str) -> Response:
        return _file(studio, run_id, "summary.json", "application/json")

    return router


def _file(studio: Studio, run_id: str, name: str, kind: str) -> Response:
    """A file of a run's report. Its key is made of what the run's manifest says, never of what a client says."""
    run = studio.run(run_id)
    key = None if run is None else _key(run, name)
    if key is None:
        raise SettingsError("there is no such report")
    try:
        if studio.output.head(key).size > MOST_BYTES:
            raise SettingsError(f"the report is too large to be shown here: {studio.output.uri_of(key)}")
        data = studio.output.get(key)
    except StorageError as error:
        if error.code is ErrorCode.NOT_FOUND:
            raise SettingsError(f"the report of this run is gone: {studio.output.uri_of(key)}") from None
        raise SettingsError(f"cannot read {studio.output.uri_of(key)}: {error.detail}") from None
    return Response(data, headers={"Content-Type": kind, "Content-Security-Policy": SANDBOX})


def _key(run: Run, name: str) -> str | None:
    """Where the file lies; None where a manifest points to anything but a report of its run."""
    if run.manifest is None or run.manifest.report != f"reports/{run.run_id}/report.html":
        return None
    return f"reports/{run.run_id}/{name}" if name else run.manifest.report

"""The policy page: a file in an editor, and beside it what it would do to the stored images. Nothing here publishes."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse, Response

from moderation.common.findings import Finding
from moderation.errors import ModerationError, SettingsError
from moderation.html.text import key_of
from moderation.policy.json_schema import schema
from moderation.policy_files.loading import read_draft
from moderation.studies.tuning.policy_file import NewThreshold, draft_with_threshold
from moderation.studio.effect import Limits
from moderation.studio.forms import content, text_in
from moderation.studio.gallery import sources_of
from moderation.studio.policy_document import PolicyDocument
from moderation.studio.policy_effect import Draft, PolicyEffects, Working
from moderation.studio.policy_views import effect_view, moved, sheet, sheets
from moderation.studio.rendering import page, part, rendered
from moderation.studio.studio import Studio

PATIENCE_S = 0.4
"""Seconds for which the page waits for an effect before it says how far it is."""
Sent = Annotated[dict[str, Any], Depends(content)]


def routes(studio: Studio) -> APIRouter:
    """The page and what its editor asks."""
    router = APIRouter()
    effects = PolicyEffects(studio)

    @router.get("/policy")
    def policy(file: int = 0) -> Response:
        names = [str(document.path) for document in studio.documents]
        if not names:
            return page(studio, "policy.html.j2", "Policy", "/policy", names=names, file=0, opened=_stored(studio), saved=False)
        opened = _document(studio, file).read()
        data = {"text": opened.text, "digest": opened.digest, "path": names[file]}
        return page(studio, "policy.html.j2", names[file], "/policy", names=names, file=file, opened=data, saved=True)

    @router.get("/policy/schema.json")
    def language() -> Response:
        return Response(json.dumps(schema()), media_type="application/json")

    @router.post("/policy/{file}/check")
    def check(file: int, sent: Sent) -> Response:
        text, path = text_in(sent, "text"), _path(studio, file)
        try:
            findings, note = studio.model.check(text, path)
        except ModerationError as error:  # the language can be checked without the model
            findings, note = list(read_draft(text, path).findings), str(error)
        return JSONResponse({"findings": [_finding(one, path) for one in findings], "note": note})

    @router.post("/policy/{file}/draft")
    def draft(file: int, sent: Sent) -> Response:
        path = _path(studio, file)
        read = read_draft(text_in(sent, "text"), path)
        if read.policy is None:
            return JSONResponse({"state": "mistakes", "findings": [_finding(one, path) for one in read.findings]})
        try:
            found = effects.draft(read.policy, PATIENCE_S)
        except ModerationError as error:
            return JSONResponse({"state": "problem", "message": str(error)})
        if isinstance(found, Working):
            return JSONResponse({"state": "working", "what": found.what, "share": found.share})
        return JSONResponse({"state": "ready", "key": found.key, "html": rendered("effect.html.j2", effect=effect_view(found))})

    @router.post("/policy/{file}/moved")
    def move(sent: Sent) -> Response:
        found = effects.known(text_in(sent, "key"))
        return JSONResponse(moved(found, *_limits(found, sent)))

    @router.post("/policy/{file}/sheet")
    def contact_sheet(sent: Sent) -> Response:
        found = effects.known(text_in(sent, "key"))
        images = sheets(found, *_limits(found, sent))
        uris = [uri for _, those in images for uri, _, _ in those]
        rows = studio.catalogue().result().find_all(uris)
        sources = sources_of(studio)
        names = {uri: key_of(sources, uri) for uri in uris}
        return part("sheet.html.j2", sheets=[sheet(title, those, rows, names) for title, those in images])

    @router.post("/policy/{file}/threshold")
    def write_threshold(file: int, sent: Sent) -> Response:
        key, value = text_in(sent, "name"), _number(sent, "value")
        if key not in ("review", "block") or value is None:
            raise SettingsError("a threshold is review or block, and a number")
        new = NewThreshold(text_in(sent, "rule"), key, value)
        return JSONResponse({"text": draft_with_threshold(text_in(sent, "text"), _path(studio, file), new)})

    @router.post("/policy/{file}/difference")
    def difference(file: int, sent: Sent) -> Response:
        text = text_in(sent, "text")
        document = _document(studio, file)
        mistakes = len(read_draft(text, document.path).findings)
        return part("difference.html.j2", lines=document.difference(text), path=str(document.path), mistakes=mistakes)

    @router.post("/policy/{file}/save")
    def save(file: int, sent: Sent) -> Response:
        document = _document(studio, file)
        studio.audit.write("save policy", path=str(document.path), was=text_in(sent, "digest"))
        opened = document.save(text_in(sent, "text"), text_in(sent, "digest"))
        return JSONResponse({"digest": opened.digest})

    return router


def _document(studio: Studio, file: int) -> PolicyDocument:
    """One of the files that `--policy` named, by its number: no path comes from a client."""
    if not 0 <= file < len(studio.documents):
        raise SettingsError("there is no such policy: files are named with --policy when the studio is started")
    return studio.documents[file]


def _path(studio: Studio, file: int) -> Path:
    """What paths in a draft are relative to: the file, or where the newest run's policy was."""
    if studio.documents:
        return _document(studio, file).path
    manifest = next(iter(studio.manifests()), None)
    folder = manifest.policy_folder if manifest is not None else None
    return Path(folder or ".") / "policy.yaml"


def _stored(studio: Studio) -> dict[str, str]:
    """The policy of the newest run, which can be tried out and not saved."""
    manifest = next(iter(studio.manifests()), None)
    if manifest is None:
        raise SettingsError("no run is published yet, and no policy was named: start the studio with --policy FILE")
    return {"text": manifest.policy_text, "digest": "", "path": f"policy of run {manifest.run_id}"}


def _limits(draft: Draft, sent: dict[str, Any]) -> tuple[str, Limits]:
    rule = text_in(sent, "rule")
    if rule not in draft.side.scores:
        raise SettingsError("the draft has no such rule")
    return rule, Limits(_number(sent, "review"), _number(sent, "block"))


def _number(sent: dict[str, Any], name: str) -> float | None:
    value = sent.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or not -1 <= value <= 1:
        raise SettingsError(f"{name} is not a number between -1 and 1")
    return float(value)


def _finding(finding: Finding, path: Path) -> dict[str, Any]:
    """As the editor needs it. `here`: whether it is in the file itself and not in one that it includes."""
    return {**asdict(finding), "here": finding.file == str(path)}

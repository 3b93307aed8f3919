"""The page on which a person labels a sample by keyboard, and saves it as CSV. Pure.

The page is the only one with a script: it is one file of this program, named in the Content-Security-Policy by its hash.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from urllib.parse import quote

from jinja2 import Template
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from moderation.common.safe_text import visible
from moderation.html import text
from moderation.html.templates import template
from moderation.policy.schema import Policy, Rule


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image to label, and its line of the CSV up to the label."""

    uri: str
    frame: int
    line: str
    original: str | None = None
    """where a browser finds the image itself; None where it cannot"""


@dataclass(frozen=True, slots=True)
class LabelSheet:
    """What the page is made from."""

    policy: Policy
    rule: Rule
    model: str
    header: str
    """first line of the CSV, with its end"""
    images: Sequence[LabelledImage]
    identity: str
    """names this sample: progress is kept in the browser under it"""
    file_name: str
    """what the CSV is saved as: a-z 0-9 - _ ."""
    population: int
    """how many images the sample stands for"""


def render(sheet: LabelSheet, thumbnails: Mapping[tuple[str, int], str]) -> str:
    """One self-contained HTML page; `thumbnails`: JPEGs as data URIs, by URI and frame; an empty tile stands for others.

    Scores and strata are not shown: whoever labels should not know what the rule thinks.
    """
    script = _script()
    data = {
        "identity": sheet.identity,
        "fileName": sheet.file_name,
        "header": sheet.header,
        "images": [
            {
                "line": image.line,
                "name": visible(image.uri),
                "frame": image.frame,
                "original": image.original if (image.uri, image.frame) in thumbnails else None,
                "picture": thumbnails.get((image.uri, image.frame)),
            }
            for image in sheet.images
        ],
    }
    return _template().render(
        sheet=sheet,
        policy=sheet.policy,
        rule=sheet.rule,
        missing=sum((image.uri, image.frame) not in thumbnails for image in sheet.images),
        script=Markup(script),  # noqa: S704 - a file of this program
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=htmlsafe_json_dumps(data),
    )


_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".bmp")
"""Names that a browser shows as a picture, whatever is in the file."""


def address(uri: str, *, local: bool) -> str | None:
    """Where a browser finds the image of a `file://` URI; None of others, and of files that it would not show as a picture.

    Args:
        uri: as the results name it: a path that is not escaped.
        local: whether pages may point to files of this machine.
    """
    path = uri.removeprefix("file://")
    if not local or path == uri or not path.startswith("/") or not path.lower().endswith(_PICTURES):
        return None
    return f"file://{quote(path)}"


@cache
def _script() -> str:
    return resources.files("moderation.html").joinpath("pages", "label_sheet.js").read_text(encoding="utf-8")


@cache
def _template() -> Template:
    return template("label_sheet.html.j2", {"number": text.number})

"""The attributes of an element, as far as they are drawn; what they refer to; pictures inside."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import unquote_to_bytes

from moderation.errors import ErrorCode, ImageError
from moderation.images.svg.properties import ATTRIBUTES, OUTSIZED, PROPERTIES, REFUSED_ATTRIBUTES, references, refuses
from moderation.images.svg.styles import RefusedStyleError, checked_style

Embed = Callable[[bytes], bytes]
"""From a picture inside an SVG to a PNG that the renderer may read; raises ImageError"""

_XLINK, _XML = "http://www.w3.org/1999/xlink", "http://www.w3.org/XML/1998/namespace"
_FRAGMENT = re.compile(r"#([A-Za-z_][\w.:-]*)")
_DATA = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_SHEETS = {"type": ("", "text/css"), "media": ("", "all")}


class Attributes:
    """What attributes are drawn, element by element.

    Attributes:
        referred: what refers to something, a property or an element, and the id of that.
    """

    def __init__(self, embed: Embed) -> None:
        self.referred: set[tuple[str, str]] = set()
        self._embed = embed

    def kept(self, local: str, found: dict[str, str], *, is_root: bool) -> dict[str, str]:
        """The attributes that are drawn. Raises ImageError where one is drawn by browsers only."""
        kept: dict[str, str] = {}
        for full, value in found.items():
            space, _, name = full.rpartition(" ")
            if name == "href" and space in ("", _XLINK):
                if space and ("href" in kept or "href" in found):
                    continue  # the plain one counts
                self._refer(local, value.strip(), kept)
            elif space == _XML and name == "base":
                refuse("an SVG with xml:base")
            elif space:
                continue
            elif name.startswith("on") or name in REFUSED_ATTRIBUTES:
                refuse(f"an SVG with the attribute {name[:40]!r}")
            elif local == "style":
                if value.strip() not in _SHEETS.get(name, (value.strip(),)):
                    refuse(f"an SVG with a style sheet for {value[:40]!r}")
            elif is_root and name in ("width", "height"):  # its size is looked at elsewhere
                kept[name] = value
            else:
                self._property(name, value, kept)
        return kept

    def _property(self, name: str, value: str, kept: dict[str, str]) -> None:
        if name == "style":
            try:
                kept[name], ids = checked_style(value)
            except RefusedStyleError as error:
                refuse(f"an SVG with {error}")
            self.referred.update(ids)
        elif name in PROPERTIES:
            if refuses(name, value) or OUTSIZED.search(value):
                refuse(f"an SVG with {name}={value[:40]!r}")
            self.referred.update(references(name, value))
            kept[name] = value
        elif name in ATTRIBUTES:
            if ATTRIBUTES[name].fullmatch(value) is None or (name not in ("id", "class") and OUTSIZED.search(value)):
                refuse(f"an SVG with {name}={value[:40]!r}")
            kept[name] = value

    def _refer(self, local: str, value: str, kept: dict[str, str]) -> None:
        """To an id, or to a picture inside of the reference itself. That of a link shows nothing, and is dropped."""
        if local == "a":
            return
        if local == "image":
            kept["href"] = "data:image/png;base64," + base64.b64encode(self._embed(_content(value))).decode()
            return
        found = _FRAGMENT.fullmatch(value)
        if found is None:
            refuse(f"an SVG that refers to something outside: {value[:40]!r}")
        self.referred.add((local, found.group(1)))
        kept["href"] = value


def _content(value: str) -> bytes:
    """The bytes of a `data:` URI."""
    head = _DATA.match(value)
    if head is None:
        refuse(f"an SVG that refers to something outside: {value[:40]!r}")
    body = value[head.end() :]
    try:
        if head.group(2).lower().endswith(";base64"):
            return base64.b64decode(re.sub(r"\s+", "", unquote_to_bytes(body).decode("ascii")), validate=True)
        return unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        refuse("an SVG with a broken picture inside")


def refuse(what: str) -> NoReturn:
    """Raise the error of a file that browsers show, and that would be drawn differently here."""
    raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"{what}: not drawn here as browsers draw it")


def corrupt(what: str) -> NoReturn:
    """Raise the error of a file that browsers do not show."""
    raise ImageError(ErrorCode.CORRUPT, what)

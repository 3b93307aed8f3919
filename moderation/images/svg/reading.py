"""From the bytes of an SVG to one that holds nothing but what is drawn as browsers draw it.

The renderer never sees the file: it gets what is written here anew, element by element, without entities, references to
anything outside, and declarations. What browsers draw and the renderer does not is refused by name.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote_to_bytes
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from moderation.errors import ErrorCode, ImageError
from moderation.images.guarding import Deadline
from moderation.images.svg.properties import (
    ATTRIBUTES,
    OUTSIZED,
    PROPERTIES,
    REFUSED_ATTRIBUTES,
    references,
    refuses,
)
from moderation.images.svg.sizes import NoSizeError, drawn_size, natural_size, view_box
from moderation.images.svg.styles import RefusedStyleError, checked_sheet, checked_style

Embed = Callable[[bytes], bytes]
"""From a picture inside an SVG to a PNG that the renderer may read; raises ImageError"""

MAX_BYTES = 16 << 20
_MAX_ELEMENTS = 200_000
_MAX_DEPTH = 100
_MAX_WRITTEN = 32 << 20
"""Characters, entities expanded."""
_CHUNK = 1 << 16
"""Bytes between two looks at the clock."""

_SVG, _XHTML, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml", "http://www.w3.org/1999/xlink"
_XML = "http://www.w3.org/XML/1998/namespace"
_DRAWN = frozenset(
    "svg g defs symbol use path rect circle ellipse line polyline polygon linearGradient radialGradient stop clipPath mask pattern "
    "marker image filter a style feBlend feColorMatrix feComponentTransfer feComposite feDisplacementMap feDropShadow feFlood "
    "feFuncR feFuncG feFuncB feFuncA feGaussianBlur feMerge feMergeNode feMorphology feOffset feTile".split()
)
_REFUSED = frozenset(
    "animate animateTransform animateMotion animateColor set discard mpath script foreignObject switch feImage feTurbulence "
    "feConvolveMatrix feDiffuseLighting feSpecularLighting".split()
)
_FRAGMENT = re.compile(r"#([A-Za-z_][\w.:-]*)")
_DATA = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG that may be drawn."""

    text: str
    """the SVG; its root has the size in pixels in which it is drawn"""
    natural: tuple[float, float]
    """width and height in which browsers show it, in CSS pixels"""
    size: tuple[int, int]
    """width and height in which it is drawn, in pixels"""


def read_svg(data: bytes, deadline: Deadline, embed: Embed) -> Drawing:
    """What of an SVG is drawn.

    Args:
        data: the file.
        deadline: of the image.
        embed: makes a PNG of a picture inside.

    Raises:
        ImageError: corrupt; unsupported_format, with what it is that is not drawn; worker_timeout; what `embed` raises.
    """
    if len(data) > MAX_BYTES:
        _refuse(f"an SVG of {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    reader = _Reader(embed)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.ordered_attributes = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.EntityDeclHandler = reader.entity
    parser.AttlistDeclHandler = lambda *_: _refuse("an SVG with attributes in its document type")
    parser.SkippedEntityHandler = lambda name, _: _corrupt(f"an entity that is not declared: {name[:40]}")
    parser.ProcessingInstructionHandler = reader.instruction
    try:
        for at in range(0, len(data), _CHUNK):
            deadline.check()
            parser.Parse(data[at : at + _CHUNK], False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        _corrupt(f"no well-formed SVG: {error}")
    except (LookupError, ValueError) as error:  # an encoding that nobody knows
        _corrupt(f"no well-formed SVG: {error}")
    return reader.drawing()


@dataclass(slots=True)
class _Reader:
    """What has been read, and written anew."""

    embed: Embed
    parts: list[str] = field(default_factory=list)
    written: int = 0
    elements: int = 0
    open: list[str] = field(default_factory=list)
    """the elements that are being written"""
    silent: int = 0
    """how deep the reader is inside of what is not drawn"""
    text: list[str] = field(default_factory=list)
    """of a style sheet"""
    ids: Counter[str] = field(default_factory=Counter)
    hidden: set[str] = field(default_factory=set)
    """ids inside of what is not drawn"""
    referred: set[str] = field(default_factory=set)
    root: dict[str, str] = field(default_factory=dict)
    size: tuple[float, float] = (0.0, 0.0)
    drawn: tuple[int, int] = (0, 0)

    def start(self, name: str, attributes: list[str]) -> None:
        space, _, local = name.rpartition(" ")
        self.elements += 1
        if self.elements > _MAX_ELEMENTS:
            _refuse(f"an SVG of more than {_MAX_ELEMENTS:,} elements")
        if len(self.open) + self.silent > _MAX_DEPTH:
            _refuse(f"an SVG nested deeper than {_MAX_DEPTH} elements")
        if not self.open and (space, local) != (_SVG, "svg"):
            _refuse("an SVG whose root is not in the namespace of SVG: browsers show nothing")
        found = dict(zip(attributes[::2], attributes[1::2], strict=True))
        if space == _XHTML:
            _refuse(f"an SVG with HTML inside: {local[:40]}")
        if space == _SVG and (local in _REFUSED or (local == "style" and (self.silent or "text" in self.open))):
            _refuse(f"an SVG with {local!r}")
        if "text" in self.open or (space == _SVG and local == "text" and not self.silent):
            self.hidden.add(found.get("id", ""))
            self.open.append("text")  # its characters are looked at
            return
        if self.silent or space != _SVG or local not in _DRAWN:
            self.hidden.add(found.get("id", ""))
            self.silent += 1
            return
        self.open.append(local)
        kept = self.kept(local, found)
        if len(self.open) == 1:
            self.root = kept
            kept = self.as_root(kept)
        self.write(f"<{local}" + "".join(f" {key}={quoteattr(value)}" for key, value in kept.items()) + ">")
        self.text.clear()

    def end(self, _: str) -> None:
        if self.silent:
            self.silent -= 1
            return
        local = self.open.pop()
        if local == "text":
            return
        if local == "style":
            try:
                sheet, ids = checked_sheet("".join(self.text))
            except RefusedStyleError as error:
                _refuse(f"an SVG with {error}")
            self.referred.update(ids)
            self.write(escape(sheet))
        self.write(f"</{local}>")

    def characters(self, text: str) -> None:
        if self.silent or not self.open:
            return
        if self.open[-1] == "style":
            self.text.append(text)
            self.written += len(text)
            self.write("")
        elif "text" in self.open and text.strip():
            _refuse("an SVG with text: fonts differ from machine to machine")

    def entity(
        self, name: str, _is_parameter: int, _value: str | None, _base: str | None, system: str | None, *_: object
    ) -> None:
        if system is not None:
            _refuse(f"an SVG with an entity from outside: {name[:40]}")

    def instruction(self, target: str, _: str) -> None:
        if target.lower() == "xml-stylesheet":
            _refuse("an SVG with a style sheet from outside")

    def kept(self, local: str, found: dict[str, str]) -> dict[str, str]:
        """The attributes that are drawn."""
        kept = {}
        is_root = len(self.open) == 1
        for full, value in found.items():
            space, _, name = full.rpartition(" ")
            if name == "href" and space in ("", _XLINK):
                self.href(local, value, kept, plain=not space)
            elif space == _XML and name == "base":
                _refuse("an SVG with xml:base")
            elif space:
                continue
            elif name.startswith("on") or name in REFUSED_ATTRIBUTES:
                _refuse(f"an SVG with the attribute {name[:40]!r}")
            elif name == "style":
                try:
                    style, ids = checked_style(value)
                except RefusedStyleError as error:
                    _refuse(f"an SVG with {error}")
                if "\\" in style:
                    _refuse("an SVG with escapes in a style")
                self.referred.update(ids)
                kept[name] = style
            elif local == "style":
                if (name == "type" and value.strip() not in ("", "text/css")) or (
                    name == "media" and value.strip() not in ("", "all")
                ):
                    _refuse(f"an SVG with a style sheet for {value[:40]!r}")
            elif is_root and name in ("width", "height"):
                kept[name] = value
            elif name in PROPERTIES:
                if refuses(name, value) or OUTSIZED.search(value):
                    _refuse(f"an SVG with {name}={value[:40]!r}")
                self.referred.update(references(value))
                kept[name] = value
            elif name in ATTRIBUTES:
                if ATTRIBUTES[name].fullmatch(value) is None or (name not in ("id", "class") and OUTSIZED.search(value)):
                    _refuse(f"an SVG with {name}={value[:40]!r}")
                kept[name] = value
        if kept.get("id"):
            self.ids[kept["id"]] += 1
        return kept

    def href(self, local: str, value: str, kept: dict[str, str], *, plain: bool) -> None:
        """Of elements that show what it refers to: an id, or a picture in itself. Of links, it is dropped."""
        if local == "a":
            return
        value = value.strip()
        if "href" in kept and not plain:
            return
        if local == "image":
            kept["href"] = "data:image/png;base64," + base64.b64encode(self.embed(_content(value))).decode()
            return
        found = _FRAGMENT.fullmatch(value)
        if found is None:
            _refuse(f"an SVG that refers to something outside: {value[:40]!r}")
        self.referred.add(found.group(1))
        kept["href"] = value

    def as_root(self, kept: dict[str, str]) -> dict[str, str]:
        """The attributes of a root that has the size in which it is drawn."""
        try:
            if {"width", "height"} & kept.keys() and "em" in kept.get("width", "") + kept.get("height", "") and "style" in kept:
                raise NoSizeError("its size depends on a font")
            self.size = natural_size(kept)
            self.drawn = drawn_size(self.size)
        except NoSizeError as error:
            _refuse(f"an SVG as nothing can be shown: {error}")
        rest = {name: value for name, value in kept.items() if name not in ("x", "y", "width", "height")}
        if view_box(kept) is None:
            rest |= {"viewBox": f"0 0 {self.size[0]:.6g} {self.size[1]:.6g}", "preserveAspectRatio": "none"}
        return {"xmlns": _SVG, "width": str(self.drawn[0]), "height": str(self.drawn[1]), **rest}

    def write(self, text: str) -> None:
        self.parts.append(text)
        self.written += len(text)
        if self.written > _MAX_WRITTEN:
            _refuse("an SVG that is out of all proportion once its entities are written out")

    def drawing(self) -> Drawing:
        """The whole."""
        for one in self.referred:
            if self.ids[one] > 1 or one in self.hidden:
                _refuse(f"an SVG that refers to something that is not clear: {one[:40]!r}")
        return Drawing("".join(self.parts), self.size, self.drawn)


def _content(value: str) -> bytes:
    """The bytes of a `data:` URI."""
    head = _DATA.match(value)
    if head is None:
        _refuse(f"an SVG that refers to something outside: {value[:40]!r}")
    body = value[head.end() :]
    try:
        if head.group(2).lower().endswith(";base64"):
            return base64.b64decode(re.sub(r"\s+", "", unquote_to_bytes(body).decode("ascii")), validate=True)
        return unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        _refuse("an SVG with a broken picture inside")


def _refuse(what: str) -> NoReturn:
    raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"{what}: not drawn here as browsers draw it")


def _corrupt(what: str) -> NoReturn:
    raise ImageError(ErrorCode.CORRUPT, what)

"""From the bytes of an SVG to one that contains only what is rendered as browsers render it.

The renderer never sees the file: it gets what is written here again, element by element, without entities, references to
anything outside, and declarations. What browsers draw and the renderer does not is refused by name.
"""

from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from moderation.images.guarding import Deadline
from moderation.images.svg.attributes import Attributes, Embed, corrupt, refuse
from moderation.images.svg.properties import TARGETS, words
from moderation.images.svg.sizes import NoSizeError, drawn_size, natural_size, view_box
from moderation.images.svg.styles import RefusedStyleError, checked_sheet

MAX_BYTES = 16 << 20
_MAX_ELEMENTS = 200_000
_MAX_DEPTH = 100
_MAX_WRITTEN = 32 << 20
"""Characters, entities expanded."""
_CHUNK = 1 << 16
"""Bytes between two looks at the clock."""

_SVG, _XHTML = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"
_DRAWN = words(
    "svg g defs symbol use path rect circle ellipse line polyline polygon linearGradient radialGradient stop "
    "clipPath mask pattern marker image filter a style feBlend feColorMatrix feComponentTransfer feComposite "
    "feDropShadow feFlood feFuncR feFuncG feFuncB feFuncA feGaussianBlur feMerge feMergeNode feMorphology "
    "feOffset"
)
_REFUSED = words(
    "animate animateTransform animateMotion animateColor set discard mpath script foreignObject switch feImage "
    "feTurbulence feTile feDisplacementMap feConvolveMatrix feDiffuseLighting feSpecularLighting"
)


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
        refuse(f"an SVG of {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    reader = _Reader(Attributes(embed), deadline)
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    parser = expat.ParserCreate("utf-16" if wide else "utf-8", " ")  # whatever the file says: browsers do not heed it
    parser.buffer_text = True
    parser.ordered_attributes = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.EntityDeclHandler = reader.entity
    parser.AttlistDeclHandler = lambda *_: refuse("an SVG with attributes in its document type")
    parser.SkippedEntityHandler = lambda name, _: corrupt(f"an entity that is not declared: {name[:40]}")
    parser.ProcessingInstructionHandler = reader.instruction
    try:
        for at in range(0, len(data), _CHUNK):
            deadline.check()
            parser.Parse(data[at : at + _CHUNK])
        parser.Parse(b"", True)  # noqa: FBT003 - the end
    except expat.ExpatError as error:
        corrupt(f"no well-formed SVG: {error}")
    except (LookupError, ValueError) as error:  # an encoding that nobody knows
        corrupt(f"no well-formed SVG: {error}")
    return reader.drawing()


@dataclass(slots=True)
class _Reader:
    """What has been read, and written out again."""

    attributes: Attributes
    deadline: Deadline
    parts: list[str] = field(default_factory=list)
    written: int = 0
    elements: int = 0
    open: list[str] = field(default_factory=list)
    """the elements that are being written"""
    silent: int = 0
    """how deep the reader is inside of what is not drawn"""
    text: list[str] = field(default_factory=list)
    """of a style sheet"""
    ids: dict[str, str] = field(default_factory=dict)
    """of each id, the element; "" if there are several, or if it is inside of what is not drawn"""
    size: tuple[float, float] = (0.0, 0.0)
    drawn: tuple[int, int] = (0, 0)

    def start(self, name: str, attributes: list[str]) -> None:
        space, _, local = name.rpartition(" ")
        self.elements += 1
        if self.elements % 1000 == 0:  # entities make many of few bytes
            self.deadline.check()
        if self.elements > _MAX_ELEMENTS:
            refuse(f"an SVG of more than {_MAX_ELEMENTS:,} elements")
        if len(self.open) + self.silent > _MAX_DEPTH:
            refuse(f"an SVG nested deeper than {_MAX_DEPTH} elements")
        if not self.open and (space, local) != (_SVG, "svg"):
            refuse("an SVG whose root is not in the namespace of SVG: browsers show nothing")
        found = dict(zip(attributes[::2], attributes[1::2], strict=True))
        if space == _XHTML:
            refuse(f"an SVG with HTML inside: {local[:40]}")
        if space == _SVG and (local in _REFUSED or (local == "style" and (self.silent or "text" in self.open))):
            refuse(f"an SVG with {local!r}")
        if "text" in self.open or (space == _SVG and local == "text" and not self.silent):
            self.ids[found.get("id", "")] = ""
            self.open.append("text")  # its characters are looked at
            return
        if self.silent or space != _SVG or local not in _DRAWN:
            self.ids[found.get("id", "")] = ""
            self.silent += 1
            return
        self.open.append(local)
        kept = self.attributes.kept(local, found, is_root=len(self.open) == 1)
        if kept.get("id"):
            self.ids[kept["id"]] = "" if kept["id"] in self.ids else local
        if len(self.open) == 1:
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
                refuse(f"an SVG with {error}")
            self.attributes.referred.update(ids)
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
            refuse("an SVG with text: fonts differ from machine to machine")

    def entity(
        self, name: str, _is_parameter: int, _value: str | None, _base: str | None, system: str | None, *_: object
    ) -> None:
        if system is not None:
            refuse(f"an SVG with an entity from outside: {name[:40]}")

    def instruction(self, target: str, _: str) -> None:
        if target.lower() == "xml-stylesheet":
            refuse("an SVG with a style sheet from outside")

    def as_root(self, kept: dict[str, str]) -> dict[str, str]:
        """The attributes of a root that has the size in which it is drawn."""
        try:
            if {"width", "height"} & kept.keys() and "em" in kept.get("width", "") + kept.get("height", "") and "style" in kept:
                raise NoSizeError("its size depends on a font")
            self.size = natural_size(kept)
            self.drawn = drawn_size(self.size)
        except NoSizeError as error:
            refuse(f"an SVG as nothing can be shown: {error}")
        if "transform" in kept or ("viewBox" in kept and view_box(kept) is None):
            refuse("an SVG whose root is turned, or shows nothing")
        rest = {name: value for name, value in kept.items() if name not in ("x", "y", "width", "height")}
        if view_box(kept) is None:
            rest |= {"viewBox": f"0 0 {self.size[0]:.6g} {self.size[1]:.6g}", "preserveAspectRatio": "none"}
        return {"xmlns": _SVG, "width": str(self.drawn[0]), "height": str(self.drawn[1]), **rest}

    def write(self, text: str) -> None:
        self.parts.append(text)
        self.written += len(text)
        if self.written > _MAX_WRITTEN:
            refuse("an SVG that is out of all proportion once its entities are written out")

    def drawing(self) -> Drawing:
        """The whole."""
        for name, one in self.attributes.referred:
            if self.ids.get(one, "") not in TARGETS.get(name, ()):
                refuse(f"an SVG whose {name} refers to nothing that is clear: {one[:40]!r}")
        return Drawing("".join(self.parts), self.size, self.drawn)

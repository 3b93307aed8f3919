"""SVG files of every kind, drawn and refused, for comparison with a browser."""
# ruff: noqa: E501

import base64
import io

from PIL import Image
from strange_pictures import PROFILES, encoded, scene

XMLNS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
SHAPES = """<rect x="8" y="6" width="50" height="30" rx="6" fill="#e63946"/><circle cx="80" cy="30" r="22" fill="rgb(29, 53, 87)"/>
<ellipse cx="35" cy="60" rx="30" ry="14" fill="seagreen" opacity=".6"/><path d="M60 50h40v35q-20 10-40-5z" fill="gold" stroke="#000"
 stroke-width="3" stroke-linejoin="round"/><polyline points="5,90 20,70 35,90 50,70" fill="none" stroke="purple" stroke-width="4"
 stroke-dasharray="8 3"/><polygon points="100 60 116 92 90 92" fill="hsl(200, 80%, 40%)"/><line x1="2" y1="2" x2="118" y2="98"
 stroke="teal" stroke-width="2" stroke-linecap="round"/>"""


def svg(content=SHAPES, attributes='width="120" height="100"', before=""):
    return f"{before}<svg {XMLNS} {attributes}>{content}</svg>".encode()


def uri(data, kind):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def with_alpha():
    image = scene(48, 32).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((48, 32)))
    return image


def turned():
    exif = Image.Exif()
    exif[0x112] = 6
    out = io.BytesIO()
    scene().save(out, "JPEG", exif=exif)
    return out.getvalue()


def picture(data, kind, more=""):
    return svg(f'<image x="10" y="10" width="90" height="70" {more} href="{uri(data, kind)}"/>')


GRADIENTS = """<defs><linearGradient id="a" x1="0" y1="0" x2="1" y2="1"><stop offset="0" stop-color="#f00"/><stop offset="40%"
 stop-color="yellow" stop-opacity=".5"/><stop offset="1" style="stop-color:#00f"/></linearGradient><radialGradient id="b" cx="40%"
 cy="40%" r="60%" fx="30%" fy="30%" spreadMethod="reflect" gradientUnits="objectBoundingBox"><stop offset=".2" stop-color="white"/>
<stop offset="1" stop-color="darkgreen"/></radialGradient><linearGradient id="c" xlink:href="#a" gradientTransform="rotate(60)"/>
<pattern id="p" width="12" height="10" patternUnits="userSpaceOnUse"><rect width="6" height="5" fill="navy"/><circle cx="9" cy="7"
 r="2" fill="orange"/></pattern></defs><rect width="60" height="50" fill="url(#a)"/><rect x="60" width="60" height="50"
 fill="url(#b)"/><rect y="50" width="60" height="50" fill="url(#c)"/><rect x="60" y="50" width="60" height="50" fill="url(#p)"/>"""
MASKS = """<defs><clipPath id="c"><circle cx="40" cy="50" r="35"/></clipPath><mask id="m"><rect width="120" height="100" fill="#888"/>
<circle cx="80" cy="50" r="30" fill="white"/></mask><mask id="n" mask-type="alpha"><circle cx="60" cy="50" r="40"
 fill-opacity=".7"/></mask></defs><g clip-path="url(#c)"><rect width="120" height="100" fill="crimson"/></g><rect x="50" width="70"
 height="100" fill="royalblue" mask="url(#m)"/><rect width="120" height="20" y="40" fill="lime" mask="url(#n)"/>"""
USES = """<defs><symbol id="s" viewBox="0 0 10 10"><rect width="10" height="10" fill="tomato"/><circle cx="5" cy="5" r="4"
 fill="currentColor"/></symbol><g id="g"><rect width="20" height="10"/><circle cx="25" cy="5" r="5"/></g></defs><use href="#s" x="5"
 y="5" width="40" height="30" color="navy"/><use xlink:href="#g" x="60" y="20" fill="green"/><use href="#g"
 transform="translate(20 60) scale(2) rotate(10)" stroke="red" fill="none"/><a href="https://example.com/"><use href="#g" x="70"
 y="80"/></a>"""
MARKERS = """<defs><marker id="m" viewBox="0 0 10 10" refX="5" refY="5" markerWidth="5" markerHeight="5" orient="auto-start-reverse">
<path d="M0 0L10 5L0 10z" fill="red"/></marker></defs><path d="M15 20L60 80L105 20" fill="none" stroke="black" stroke-width="3"
 marker-start="url(#m)" marker-mid="url(#m)" marker-end="url(#m)"/>"""
STYLED = """<style type="text/css"><![CDATA[ /* by hand */ .a, .b > rect { fill: #fa0; stroke: black } #one { fill: teal !important }
 circle { opacity: .5; fill: blue } g .deep.two { fill: maroon; font-family: Arial }]]></style><rect class="a" width="40"
 height="40"/><g class="b"><rect x="50" width="40" height="40" style="stroke-width: 6; -inkscape-stroke: none"/><g><rect
 class="deep two" x="10" y="50" width="30" height="40"/></g></g><rect id="one" x="60" y="55" width="40" height="40" fill="red"/>
<circle cx="50" cy="50" r="20"/>"""


def filtered(primitives, more=""):
    shapes = '<rect x="30" y="25" width="50" height="40" fill="#c33"/><circle cx="75" cy="60" r="20" fill="#36c"/>'
    return svg(f'<filter id="f" {more}>{primitives}</filter><g filter="url(#f)">{shapes}</g>')


def drawn():
    """Name: a file that is drawn as browsers draw it."""
    found = {
        "shapes": svg(),
        "gradients": svg(GRADIENTS),
        "masks": svg(MASKS),
        "uses": svg(USES),
        "markers": svg(MARKERS),
        "styles": svg(STYLED),
        "prefixed": SHAPES.encode().replace(b"<", b"<s:").replace(b"<s:/", b"</s:").join(
            [b"<s:svg xmlns:s='http://www.w3.org/2000/svg' width='120' height='100'>", b"</s:svg>"]
        ),
        "UTF-16": svg(before='<?xml version="1.0" encoding="UTF-16"?>').decode().encode("utf-16"),
        "not as declared": svg(f"<title>\xe9</title>{SHAPES}", before='<?xml version="1.0" encoding="ISO-8859-1"?>'),
        "entities": svg(
            '<rect width="60" height="60" style="&st;"/>&shape;',
            before='<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://127.0.0.1:9/x.dtd" [<!ENTITY st "fill:#f0f">'
            '<!ENTITY shape "<circle xmlns=\'http://www.w3.org/2000/svg\' cx=\'70\' cy=\'60\' r=\'30\' fill=\'green\'/>">]>',
        ),
        "editor": svg(
            '<metadata><rdf xmlns="urn:rdf"><rect/></rdf></metadata><x:view xmlns:x="urn:x" zoom="3"/><desc>words</desc><text/>'
            + SHAPES,
            'width="120" height="100" xmlns:i="urn:i" i:version="1" version="1.1" data-name="Layer" xml:space="preserve"',
        ),
        "nested": svg(
            f'<svg x="10" y="10" width="50" height="80" viewBox="0 0 120 100" preserveAspectRatio="xMinYMax slice">{SHAPES}</svg>'
            f'<svg x="65" y="5" width="50%" height="40%" viewBox="0 0 120 100">{SHAPES}</svg>'
        ),
        "blended": svg(
            '<rect width="120" height="100" fill="#8cf"/><rect width="70" height="70" fill="#fc4" style="mix-blend-mode:multiply"/>'
            '<g style="isolation:isolate" opacity=".8"><circle cx="80" cy="60" r="35" fill="red"/><circle cx="60" cy="70" r="20"'
            ' fill="lime" style="mix-blend-mode:difference"/></g><rect x="85" y="5" width="30" height="30" stroke="black"'
            ' stroke-width="9" fill="white" paint-order="stroke"/>'
        ),
        "hidden": svg('<g display="none"><rect width="99" height="99"/></g><g visibility="hidden"><circle r="50"/><circle r="30"'
                      ' visibility="visible" fill="red" cx="50" cy="50"/></g><rect width="9" height="9" style="display:none"/>'),
        "evenodd": svg('<path fill-rule="evenodd" d="M10 10h90v80h-90zM30 30h50v40h-50z"/><clipPath id="c"><path clip-rule="evenodd"'
                       ' d="M0 0h120v100h-120zM40 40h30v20h-30z"/></clipPath><rect width="120" height="50" fill="red"'
                       ' clip-path="url(#c)"/>'),
        "path that breaks off": svg('<path d="M10 10L60 10L60 60 L 20" fill="blue"/>'),
        "arcs": svg('<path d="M10 50A40 30 20 1 0 90 50A20 20 0 0150 90T20 90S 40 20 60 30" fill="none" stroke="#000"'
                    ' stroke-width="4"/>'),
        "nothing": svg(""),
    }  # fmt: skip
    roots = {
        "view box alone": 'viewBox="0 0 120 100"',
        "wide view box alone": 'viewBox="0 0 480 100"',
        "no size": "",
        "percent": 'width="100%" height="100%" viewBox="0 0 120 100"',
        "width alone": 'width="60" viewBox="0 0 120 100"',
        "height alone": 'height="50" viewBox="0 0 120 100"',
        "width alone, no box": 'width="60"',
        "em": 'width="2em" height="1em" viewBox="0 0 120 100"',
        "millimetres": 'width="40mm" height="30mm" viewBox="0 0 120 100"',
        "points": 'width="90pt" height="75pt" viewBox="0 0 120 100"',
        "fractions": 'width="100.6" height="80.3" viewBox="0 0 120 100"',
        "moved box": 'width="200" height="100" viewBox="-20 10 80 70"',
        "sliced": 'width="200" height="100" viewBox="0 0 120 100" preserveAspectRatio="xMidYMin slice"',
        "stretched": 'width="200" height="100" viewBox="0 0 120 100" preserveAspectRatio="none"',
        "to the right": 'width="200" height="100" viewBox="0 0 120 100" preserveAspectRatio="xMaxYMid"',
        "tiny": 'width="12" height="10" viewBox="0 0 120 100"',
        "large": 'width="2400" height="2000" viewBox="0 0 120 100"',
        "styled root": 'width="120" height="100" style="fill:red;opacity:.5"',
        "root with x": 'width="120" height="100" x="30" y="20"',
    }
    found |= {f"root: {name}": svg(attributes=attributes) for name, attributes in roots.items()}
    filters = {
        "blur": '<feGaussianBlur stdDeviation="5"/>',
        "blur in sRGB": '<feGaussianBlur stdDeviation="5 2" color-interpolation-filters="sRGB"/>',
        "shadow": '<feDropShadow dx="6" dy="4" stdDeviation="3" flood-color="navy" flood-opacity=".7"/>',
        "by hand": '<feOffset in="SourceAlpha" dx="8" dy="8" result="o"/><feGaussianBlur in="o" stdDeviation="3" result="b"/><feFlood'
        ' flood-color="lime"/><feComposite in2="b" operator="in"/><feMerge><feMergeNode/><feMergeNode in="SourceGraphic"/></feMerge>',
        "matrix": '<feColorMatrix type="matrix" values="0 1 0 0 0 1 0 0 0 0 0 0 1 0 0 0 0 0 1 0"/>',
        "saturate": '<feColorMatrix type="saturate" values=".2"/>',
        "hue": '<feColorMatrix type="hueRotate" values="120"/>',
        "transfer": '<feComponentTransfer><feFuncR type="table" tableValues="1 0 .5"/><feFuncG type="gamma" amplitude="2" exponent=".5"'
        ' offset=".1"/><feFuncB type="linear" slope=".5" intercept=".3"/></feComponentTransfer>',
        "morphology": '<feMorphology operator="dilate" radius="4"/>',
        "blend": '<feFlood flood-color="#fc0" result="x"/><feBlend in="SourceGraphic" in2="x" mode="multiply"/>',
        "arithmetic": '<feFlood flood-color="#08f" result="x"/><feComposite in="SourceGraphic" in2="x" operator="arithmetic" k1=".5" k2=".3"'
        ' k3=".4" k4="0"/>',
        "none": "",
    }  # fmt: skip
    found |= {f"filter: {name}": filtered(text) for name, text in filters.items()}
    found["filter: region"] = filtered(
        '<feFlood flood-color="pink"/>', 'x="10" y="10" width="60" height="50" filterUnits="userSpaceOnUse"'
    )
    image = scene(48, 32)
    found |= {
        "image: PNG": picture(encoded(image, "PNG"), "png"),
        "image: JPEG": picture(encoded(image, "JPEG", quality=95), "jpeg", 'preserveAspectRatio="none"'),
        "image: sliced": picture(encoded(image, "PNG"), "png", 'preserveAspectRatio="xMinYMin slice"'),
        "image: WebP": picture(encoded(image, "WEBP"), "webp"),
        "image: GIF": picture(encoded(image, "GIF"), "gif"),
        "image: alpha": picture(encoded(with_alpha(), "PNG"), "png"),
        "image: of another type": picture(encoded(image, "PNG"), "jpeg"),
        "image: turned and clipped": svg(
            f'<clipPath id="c"><circle cx="60" cy="50" r="40"/></clipPath><image clip-path="url(#c)" width="120" height="100" '
            f'xlink:href="{uri(encoded(image, "PNG"), "png")}"/>'
        ),
    }
    return {f"{name}.svg": data for name, data in found.items()}


BOMB = '<!DOCTYPE svg [<!ENTITY a0 "<g/>">' + "".join(
    f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)
) + "]>"  # fmt: skip


def refused():
    """Name: a file that browsers draw, and that is an error row, by what is not drawn here."""
    rect = '<rect width="99" height="99" fill="red"/>'
    found = {
        "text": ('<text x="10" y="50">words</text>', "text"),
        "text in a span": ('<text x="9" y="50"><tspan>words</tspan></text>', "text"),
        "animation": ('<rect width="9" height="9"><animate attributeName="width" to="99" dur="1s"/></rect>', "'animate'"),
        "set": ('<rect width="9" height="9"><set attributeName="fill" to="red"/></rect>', "'set'"),
        "script": ("<script>1</script>" + rect, "'script'"),
        "handler": ('<rect width="9" height="9" onload="x()"/>', "'onload'"),
        "foreign object": (
            '<foreignObject width="99" height="99"><p xmlns="http://www.w3.org/1999/xhtml">words</p></foreignObject>',
            "'foreignObject'",
        ),
        "HTML": ('<style xmlns="http://www.w3.org/1999/xhtml">rect{fill:red}</style>' + rect, "HTML inside: style"),
        "switch": (f'<switch><g systemLanguage="en">{rect}</g></switch>', "'switch'"),
        "import": ('<style>@import url("http://127.0.0.1:9/x.css");</style>' + rect, "the rule @import"),
        "font-face": ("<style>@font-face{src:url(x)}</style>" + rect, "the rule @font-face"),
        "media": ("<style>@media (min-width:1px){rect{fill:blue}}</style>" + rect, "the rule @media"),
        "variable": ("<style>rect{fill:var(--x)}</style>" + rect, "the style fill: var"),
        "selector": ("<style>rect:nth-child(2){fill:blue}</style>" + rect, "the selector"),
        "attribute selector": ("<style>[width]{fill:blue}</style>" + rect, "the selector"),
        "geometry by style": ('<rect style="width:50px;height:40px"/>', "the style 'width'"),
        "transform by style": ('<rect width="50" height="50" style="transform:rotate(9deg)"/>', "the style 'transform'"),
        "colour function": ('<rect width="50" height="50" fill="oklch(60% .2 30)"/>', "fill='oklch"),
        "thin strokes": ('<rect width="50" height="50" vector-effect="non-scaling-stroke" stroke="red"/>', "vector-effect"),
        "calc": ('<rect width="calc(3px + 50px)" height="50"/>', "width='calc"),
        "viewport units": ('<rect width="50vw" height="50"/>', "width='50vw'"),
        "turbulence": ('<filter id="f"><feTurbulence baseFrequency=".1"/></filter><g filter="url(#f)">' + rect + "</g>", "'feTurbulence'"),
        "picture inside a filter": ('<filter id="f"><feImage href="#x"/></filter><g filter="url(#f)">' + rect + "</g>", "'feImage'"),
        "escape": ("<style>rect{fi\\6c l:blue}</style>" + rect, "escapes"),
        "hidden style": ("<metadata><style>rect{fill:blue}</style></metadata>" + rect, "'style'"),
        "two of an id": ('<defs><rect id="a" width="9" height="9"/><circle id="a" r="50"/></defs><use href="#a"/>', "nothing that is clear: 'a'"),
        "nothing is there": ('<g filter="url(#f)">' + rect + "</g>", "nothing that is clear: 'f'"),
        "another kind": ('<rect id="f" width="50" height="50" fill="url(#f)"/>', "nothing that is clear: 'f'"),
        "path length": ('<path pathLength="10" stroke-dasharray="1" d="M0 0h99" stroke="red"/>', "'pathLength'"),
        "SVG inside": (f'<image width="99" height="99" href="{uri(svg(), "svg+xml")}"/>', "an SVG with SVG inside"),
        "turned JPEG": (f'<image width="99" height="99" href="{uri(turned(), "jpeg")}"/>', "JPEG inside that is not plain"),
        "profile": (
            f'<image width="99" height="99" href="{uri(encoded(scene(), "PNG", icc_profile=PROFILES["channels swapped"]), "png")}"/>',
            "colours of its own",
        ),
        "use of a file": ('<use href="http://127.0.0.1:9/x.svg#a"/>' + rect, "something outside"),
        "picture of a file": ('<image href="file:///etc/passwd" width="9" height="9"/>' + rect, "something outside"),
        "xml:base": ('<g xml:base="http://127.0.0.1:9/">' + rect + "</g>", "xml:base"),
    }  # fmt: skip
    made = {f"{name}.svg": (svg(content), why) for name, (content, why) in found.items()}
    made["root without a box.svg"] = svg(attributes='width="120" height="100" viewBox="0 0 0 0"'), "whose root is turned"
    made["turned root.svg"] = svg(attributes='width="120" height="100" transform="rotate(20)"'), "whose root is turned"
    made["Latin-1.svg"] = svg("<title>\xe9</title>" + rect).decode().encode("latin-1"), "no well-formed SVG"
    made["sheet.svg"] = svg(rect, before='<?xml-stylesheet href="data:text/css,rect{}"?>'), "a style sheet from outside"
    made["no namespace.svg"] = b'<svg width="9" height="9"><rect width="9" height="9"/></svg>', "not in the namespace"
    made["external entity.svg"] = (
        svg("&x;" + rect, before='<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        "an entity from outside",
    )
    made["attlist.svg"] = svg(rect, before='<!DOCTYPE svg [<!ATTLIST rect x CDATA "5">]>'), "attributes in its document type"
    return made

"""Properties and attributes of SVG that are drawn as browsers draw them, and the values they may have."""

import re

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?"
_LENGTH = rf"{_NUMBER}(?:px|pt|pc|mm|cm|in|%)?"
_SPACE = r"[\s,]+"
_NAMED = (
    "aliceblue antiquewhite aqua aquamarine azure beige bisque black blanchedalmond blue blueviolet brown "
    "burlywood cadetblue chartreuse chocolate coral cornflowerblue cornsilk crimson cyan darkblue darkcyan "
    "darkgoldenrod darkgray darkgreen darkgrey darkkhaki darkmagenta darkolivegreen darkorange darkorchid darkred "
    "darksalmon darkseagreen darkslateblue darkslategray darkslategrey darkturquoise darkviolet deeppink "
    "deepskyblue dimgray dimgrey dodgerblue firebrick floralwhite forestgreen fuchsia gainsboro ghostwhite gold "
    "goldenrod gray green greenyellow grey honeydew hotpink indianred indigo ivory khaki lavender lavenderblush "
    "lawngreen lemonchiffon lightblue lightcoral lightcyan lightgoldenrodyellow lightgray lightgreen lightgrey "
    "lightpink lightsalmon lightseagreen lightskyblue lightslategray lightslategrey lightsteelblue lightyellow "
    "lime limegreen linen magenta maroon mediumaquamarine mediumblue mediumorchid mediumpurple mediumseagreen "
    "mediumslateblue mediumspringgreen mediumturquoise mediumvioletred midnightblue mintcream mistyrose moccasin "
    "navajowhite navy oldlace olive olivedrab orange orangered orchid palegoldenrod palegreen paleturquoise "
    "palevioletred papayawhip peachpuff peru pink plum powderblue purple rebeccapurple red rosybrown royalblue "
    "saddlebrown salmon sandybrown seagreen seashell sienna silver skyblue slateblue slategray slategrey snow "
    "springgreen steelblue tan teal thistle tomato turquoise violet wheat white whitesmoke yellow yellowgreen "
    "transparent currentcolor"
)
_CHANNEL = rf"\s*{_NUMBER}%?\s*"
_COLOUR = (
    rf"#(?:[0-9a-f]{{3,4}}|[0-9a-f]{{6}}|[0-9a-f]{{8}})|rgba?\({_CHANNEL}(?:,{_CHANNEL}){{2,3}}\)"
    rf"|hsla?\(\s*{_NUMBER}\s*,\s*{_NUMBER}%\s*,\s*{_NUMBER}%\s*(?:,{_CHANNEL})?\)|{'|'.join(_NAMED.split())}"
)
_ID = r"[A-Za-z_][\w.:-]*"
_URL = rf"url\(\s*(?:#{_ID}|'#{_ID}'|\"#{_ID}\")\s*\)"


def _of(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\s*(?:{pattern}|inherit)\s*", re.IGNORECASE)


def words(text: str) -> frozenset[str]:
    """Those of a text."""
    return frozenset(text.split())


def _words(text: str) -> re.Pattern[str]:
    return _of("|".join(text.split()))


COLOUR = _of(_COLOUR)
PAINT = _of(rf"{_COLOUR}|none|{_URL}(?:\s+(?:none|{_COLOUR}))?")
LENGTH = _of(_LENGTH)
NUMBER = _of(_NUMBER)
OPACITY = _of(rf"{_NUMBER}%?")
REFERENCE = _of(rf"none|{_URL}")
NUMBERS = _of(rf"{_NUMBER}(?:{_SPACE}{_NUMBER})*|")

PROPERTIES: dict[str, re.Pattern[str]] = {
    "fill": PAINT,
    "stroke": PAINT,
    "color": COLOUR,
    "stop-color": COLOUR,
    "flood-color": COLOUR,
    "fill-opacity": OPACITY,
    "stroke-opacity": OPACITY,
    "stop-opacity": OPACITY,
    "flood-opacity": OPACITY,
    "opacity": OPACITY,
    "fill-rule": _words("nonzero evenodd"),
    "clip-rule": _words("nonzero evenodd"),
    "stroke-width": LENGTH,
    "stroke-dashoffset": LENGTH,
    "stroke-miterlimit": NUMBER,
    "stroke-linecap": _words("butt round square"),
    "stroke-linejoin": _words("miter round bevel"),
    "stroke-dasharray": _of(rf"none|{_LENGTH}(?:{_SPACE}{_LENGTH})*"),
    "display": _words("none inline block"),
    "visibility": _words("visible hidden collapse"),
    "overflow": _words("visible hidden scroll auto"),
    "clip-path": REFERENCE,
    "mask": REFERENCE,
    "filter": REFERENCE,
    "marker": REFERENCE,
    "marker-start": REFERENCE,
    "marker-mid": REFERENCE,
    "marker-end": REFERENCE,
    "mask-type": _words("luminance alpha"),
    "mix-blend-mode": _words(
        "normal multiply screen overlay darken lighten color-dodge color-burn hard-light soft-light difference exclusion hue "
        "saturation color luminosity"
    ),
    "isolation": _words("auto isolate"),
    "paint-order": _of(r"normal|(?:fill|stroke|markers)(?:\s+(?:fill|stroke|markers)){0,2}"),
    "color-interpolation-filters": _words("srgb linearrgb auto"),
    "shape-rendering": _words("auto geometricprecision"),
    "image-rendering": _words("auto optimizequality smooth"),
    # What changes nothing at these values, and cannot be drawn at others:
    "vector-effect": _words("none"),
    "color-interpolation": _words("srgb auto"),
    "transform-origin": _of("(?!)"),
    "transform-box": _of("(?!)"),
    "clip": _words("auto"),
}
"""What is drawn, by style or by attribute."""

WITHOUT_EFFECT = words(
    "font font-family font-size font-size-adjust font-stretch font-style font-variant font-weight "
    "font-feature-settings font-variant-ligatures font-variant-caps font-variant-numeric font-variant-alternates "
    "font-variant-position font-variant-east-asian font-variation-settings letter-spacing word-spacing "
    "text-anchor text-align text-decoration text-decoration-line text-decoration-style text-decoration-color "
    "text-indent text-transform text-rendering text-orientation text-shadow text-overflow white-space line-height "
    "baseline-shift dominant-baseline alignment-baseline writing-mode direction unicode-bidi "
    "glyph-orientation-vertical glyph-orientation-horizontal kerning cursor pointer-events enable-background "
    "color-rendering color-profile buffered-rendering solid-color solid-opacity user-select shape-inside "
    "shape-padding shape-margin inline-size -inkscape-font-specification -inkscape-stroke block-progression"
)
"""Properties that change text only, of which there is none, or nothing."""
DASHED_WITHOUT_EFFECT = ("-inkscape-", "-inkscape", "-sodipodi-")

_COORDINATES = re.compile(r"[\s,0-9eE.+\-]*")
_PATH = re.compile(r"[\s,0-9eE.+\-MmZzLlHhVvCcSsQqTtAa]*")
_TRANSFORM = re.compile(
    rf"\s*(?:(?:matrix|translate|scale|rotate|skewX|skewY)\s*\(\s*{_NUMBER}(?:{_SPACE}{_NUMBER}){{0,5}}\s*\)[\s,]*)*"
)
_LENGTHS = (
    "x y width height cx cy r rx ry x1 y1 x2 y2 fx fy fr offset refX refY markerWidth markerHeight dx dy scale radius "
    "stdDeviation k1 k2 k3 k4 surfaceScale seed amplitude exponent intercept slope"
)
_UNITS = "gradientUnits patternUnits patternContentUnits clipPathUnits maskUnits maskContentUnits filterUnits primitiveUnits"
ATTRIBUTES: dict[str, re.Pattern[str]] = {
    **dict.fromkeys(_LENGTHS.split(), LENGTH),
    **dict.fromkeys(("stdDeviation", "radius"), _of(rf"{_NUMBER}(?:{_SPACE}{_NUMBER})?")),
    **dict.fromkeys(("tableValues", "values"), NUMBERS),
    "d": _PATH,
    "points": _COORDINATES,
    **dict.fromkeys(("transform", "gradientTransform", "patternTransform"), _TRANSFORM),
    "viewBox": _of(rf"{_NUMBER}(?:{_SPACE}{_NUMBER}){{3}}"),
    "preserveAspectRatio": re.compile(r"\s*(?:none|x(?:Min|Mid|Max)Y(?:Min|Mid|Max))(?:\s+(?:meet|slice))?\s*"),
    "orient": _of(rf"auto|auto-start-reverse|{_NUMBER}"),
    "spreadMethod": re.compile("pad|reflect|repeat"),
    "markerUnits": re.compile("strokeWidth|userSpaceOnUse"),
    **dict.fromkeys(
        _UNITS.split(),
        re.compile("userSpaceOnUse|objectBoundingBox"),
    ),
    **dict.fromkeys(("in", "in2"), re.compile(r"(?!BackgroundImage|BackgroundAlpha|FillPaint|StrokePaint)\s*[\w.:-]*\s*")),
    "result": re.compile(r"\s*[\w.:-]*\s*"),
    "mode": _words("normal multiply screen overlay darken lighten color-dodge color-burn hard-light soft-light"),
    "operator": _words("over in out atop xor arithmetic erode dilate"),
    "type": _words("matrix saturate hueRotate luminanceToAlpha identity table discrete linear gamma"),
    "xChannelSelector": re.compile("[RGBA]"),
    "yChannelSelector": re.compile("[RGBA]"),
    "id": re.compile(rf"{_ID}|"),
    "class": re.compile(r"[^<>&]*"),
}
"""Attributes that are no properties."""
REFUSED_ATTRIBUTES = frozenset(
    {"requiredExtensions", "requiredFeatures", "systemLanguage", "pathLength", "kernelMatrix", "begin"}
)
"""Attributes that browsers heed and that are not drawn."""
OUTSIZED = re.compile(r"(?<![\d.#a-fA-F])\d{8,}|\d[eE]\+?\d{2}|\d[eE]\+?[7-9]|\d[eE]-\d{3}")
"""In a number: ten million and more."""


def refuses(name: str, value: str) -> bool:
    """Whether a property cannot be drawn as browsers draw it with this value; `name` is one of `PROPERTIES`."""
    return PROPERTIES[name].fullmatch(value) is None


_PAINTS = frozenset({"linearGradient", "radialGradient", "pattern"})
TARGETS = {
    "fill": _PAINTS,
    "stroke": _PAINTS,
    "clip-path": frozenset({"clipPath"}),
    "mask": frozenset({"mask"}),
    "filter": frozenset({"filter"}),
    **dict.fromkeys(("marker", "marker-start", "marker-mid", "marker-end"), frozenset({"marker"})),
    "linearGradient": frozenset({"linearGradient", "radialGradient"}),
    "radialGradient": frozenset({"linearGradient", "radialGradient"}),
    "pattern": frozenset({"pattern"}),
    "use": words("g svg symbol use path rect circle ellipse line polyline polygon image a"),
}
"""What a property, or the `href` of an element, may refer to: of all else, browsers and the renderer make different things."""


def references(name: str, value: str) -> list[tuple[str, str]]:
    """The ids that the value of a property refers to, each with the property's name."""
    return [(name, one) for one in re.findall(rf"url\(\s*['\"]?#({_ID})", value)]

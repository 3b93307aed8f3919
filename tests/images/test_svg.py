"""SVG: what is refused, that nothing outside is ever asked for, and that limits hold.

That it is drawn rightly, a browser judges in `test_shown_is_scored.py`.
"""

import base64
import contextlib
import http.server
import io
import random
import re
import threading
import time

import numpy as np
import pytest
from PIL import Image
from strange_drawings import BOMB, SHAPES, drawn, filtered, refused, svg
from strange_pictures import encoded, scene

from moderation.errors import ErrorCode, ImageError
from moderation.images.decoding import DecodedImage
from moderation.images.guarding import Deadline
from moderation.images.isolated import svg_pictures
from moderation.images.isolated.running import decoded as decoded_apart
from moderation.images.isolated.running import package_folder
from moderation.images.limits import ImageLimits
from moderation.images.svg.sizes import drawn_size, natural_size

CORRUPT, TIMEOUT, TOO_MANY = ErrorCode.CORRUPT, ErrorCode.WORKER_TIMEOUT, ErrorCode.TOO_MANY_PIXELS
UNSUPPORTED = ErrorCode.UNSUPPORTED_FORMAT
LIBRARY = package_folder("resvg_py").parent


def decoded(data, **limits):
    image = DecodedImage(data, ImageLimits(**limits), 224)
    [(_, picture)] = image.frames()
    return image, picture


def refusal(data, **limits):
    with pytest.raises(ImageError) as found:
        decoded(data, **limits)
    return found.value


def drawn_apart(text):
    """What the renderer makes of a text that nobody has looked at."""
    found = decoded_apart("svg", LIBRARY, text, Deadline(10), 256 << 20)

    return np.asarray(Image.open(io.BytesIO(found.pixels)).convert("RGBA"))


def test_it_is_drawn_over_white_at_a_size_of_its_own():
    image, picture = decoded(svg('<rect width="60" height="100" fill="red"/>'))
    assert (image.header.format, image.header.width, image.header.height, image.header.frames) == ("SVG", 120, 100, 1)
    assert (picture.mode, picture.size) == ("RGB", (960, 800))
    assert picture.getpixel((100, 400)) == (255, 0, 0)
    assert picture.getpixel((900, 400)) == (255, 255, 255)
    assert (image.primary, image.orientation, image.damaged, image.colours, image.reduction) == (0, 1, "", None, None)


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ({}, (300, 150)),
        ({"viewBox": "0 0 24 24"}, (150, 150)),
        ({"viewBox": "0,0 800 100"}, (300, 37.5)),
        ({"width": "100%", "height": "100%", "viewBox": "0 0 10 20"}, (75, 150)),
        ({"width": "1in", "height": "25.4mm"}, (96, 96)),
        ({"height": "50", "viewBox": "0 0 2 1"}, (100, 50)),
        ({"width": "auto", "height": "2em"}, (300, 32)),
    ],
)
def test_sizes_are_those_of_browsers(root, expected):
    assert natural_size(root) == pytest.approx(expected)


def test_it_is_drawn_at_whole_multiples_of_its_size_or_smaller():
    assert drawn_size((24, 24)) == (1008, 1008)
    assert drawn_size((600, 300)) == (600, 300)
    assert drawn_size((10_000, 100)) == (1024, 10)
    assert drawn_size((1, 1e-3)) == (1024, 1)


@pytest.mark.parametrize("name", refused())
def test_what_is_not_drawn_as_browsers_draw_it_is_refused_by_name(name):
    data, why = refused()[name]
    found = refusal(data)
    assert found.code in (UNSUPPORTED, CORRUPT)
    assert why in found.detail


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'",
        svg("<rect>"),
        svg("&nothing;"),
        svg() + b"<p/>",
        svg("<rect width='1' width='2'/>"),
        svg('<image href="data:image/png;base64,iVBORw0KGgo=" width="9" height="9"/>'),
        svg('<image href="data:image/png;base64,%%%" width="9" height="9"/>'),
    ],
)
def test_what_is_no_picture_is_an_error(data):
    assert refusal(data).code in (UNSUPPORTED, CORRUPT)


def test_without_the_renderer_the_row_names_it(monkeypatch):
    monkeypatch.setattr(svg_pictures, "package_folder", lambda name: None)
    found = refusal(svg())
    assert found.code is UNSUPPORTED
    assert found.detail.endswith("pip install 'clip-moderation[svg]'")


# --- nothing outside -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A real server, and the paths that it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = encoded(Image.new("RGB", (9, 9), "red"), "PNG")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", asked
        found.shutdown()
        thread.join()


OUTSIDE = [
    '<image width="99" height="99" href="URL/a.png"/>',
    '<image width="99" height="99" xlink:href="URL/a.png"/>',
    '<use href="URL/a.svg#a"/>',
    '<rect width="99" height="99" fill="url(URL/a.svg#a)"/>',
    '<rect width="99" height="99" style="fill:url(URL/a.svg#a)"/>',
    '<rect width="99" height="99" filter="url(URL/a.svg#a)"/>',
    '<rect width="99" height="99" mask="url(\'URL/a.svg#a\')"/>',
    '<linearGradient id="a" href="URL/a.svg#a"/><rect width="99" height="99" fill="url(#a)"/>',
    '<pattern id="a" href="URL/a.svg#a"/><rect width="99" height="99" fill="url(#a)"/>',
    '<filter id="a"><feImage href="URL/a.png"/></filter><rect width="99" height="99" filter="url(#a)"/>',
    '<style>@import "URL/a.css";</style>',
    "<style>rect{fill:url(URL/a.svg#a)}</style><rect/>",
    "<style>@font-face{font-family:x;src:url(URL/a.ttf)}</style>",
    '<script href="URL/a.js"/>',
    '<foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="URL/a.html"/></foreignObject>',
    '<g xml:base="URL/"><image href="a.png" width="9" height="9"/></g>',
    '<image width="9" height="9" href="data:image/svg+xml,&lt;svg xmlns=&apos;http://www.w3.org/2000/svg&apos;>'
    '&lt;image href=&apos;URL/a.png&apos;/>&lt;/svg>"/>',
    '<image width="9" height="9" href="//127.0.0.1/a.png"/>',
    '<image width="9" height="9" href="a.png"/>',
]


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_nothing_outside_is_asked_for(server, scheme, tmp_path):
    address, asked = server
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (9, 9), "red"), "PNG"))
    where = address if scheme == "http" else tmp_path.as_uri()
    for text in OUTSIDE:
        assert refusal(svg(text.replace("URL", where))).code is UNSUPPORTED, text
    for before in (
        f'<!DOCTYPE svg SYSTEM "{where}/a.dtd">',
        f'<!DOCTYPE svg [<!ENTITY % a SYSTEM "{where}/a.dtd"> %a;]>',
    ):
        with contextlib.suppress(ImageError):  # a document type is not loaded, and the picture has no need of it
            decoded(svg(before=before))
    assert asked == []


def test_a_link_is_a_group(server):
    address, asked = server
    _, picture = decoded(svg(f'<a href="{address}/x"><rect width="120" height="100" fill="blue"/></a>'))
    assert picture.getpixel((400, 400)) == (0, 0, 255)
    assert asked == []


def test_the_process_itself_opens_nothing(server, tmp_path):
    """Were the reader to let something through, the renderer could not load it."""
    address, asked = server
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("RGB", (9, 9), "red"), "PNG"))
    for href in (str(path), path.as_uri(), f"{address}/a.png"):
        text = svg(f'<rect width="9" height="9"/><image width="120" height="100" href="{href}"/>')
        pixels = drawn_apart(text)
        assert pixels[4, 4].tolist() == [0, 0, 0, 255]
        assert not pixels[50:, 50:].any(), href
    assert asked == []
    import resvg_py  # without limits, it does load

    there = resvg_py.svg_to_bytes(svg_string=svg(f'<image width="120" height="100" href="{path}"/>').decode())
    (tmp_path / "there.png").write_bytes(there)
    assert np.asarray(Image.open(tmp_path / "there.png"))[50, 60].tolist() == [255, 0, 0, 255]


# --- limits ----------------------------------------------------------------------------------------------------------------


def uses(levels):
    groups = "".join(f'<g id="a{i}">' + f'<use href="#a{i - 1}"/>' * 10 + "</g>" for i in range(1, levels))
    return f'<defs><g id="a0"><rect width="9" height="9"/></g>{groups}</defs><use href="#a{levels - 1}"/>'


def within_themselves(kind, attribute, attributes):
    """Masks or patterns that use the one before twice."""
    rects = '<rect width="120" height="100" {}="url(#m{})"/>'
    inner = "".join(f'<{kind} id="m{i}" {attributes}>{rects.format(attribute, i - 1) * 2}</{kind}>' for i in range(1, 30))
    return f'<{kind} id="m0" {attributes}/>{inner}{rects.format(attribute, 29)}'


BLURS = '<feGaussianBlur stdDeviation="50"/>' * 2000
HOSTILE = {
    "a bomb of uses": (svg(uses(12)), {CORRUPT, TIMEOUT, TOO_MANY}),
    "a use of itself": (svg('<g id="a"><use href="#b"/></g><g id="b"><use href="#a"/></g>'), {CORRUPT}),
    "a bomb of entities": (svg("&a9;", before=BOMB), {UNSUPPORTED, CORRUPT, TIMEOUT}),
    "deep": (svg("<g>" * 100_000 + "</g>" * 100_000), {UNSUPPORTED}),
    "deep in nothing": (svg("<metadata>" * 100_000 + "</metadata>" * 100_000), {UNSUPPORTED}),
    "a size of 1e9": (svg(attributes='width="1000000000" height="1000000000"'), {UNSUPPORTED}),
    "a size of 1e30": (svg(attributes='width="1e30" height="1e30"'), {UNSUPPORTED}),
    "no size": (svg(attributes='width="0" height="9"'), {UNSUPPORTED}),
    "thin": (svg(attributes='width="100000" height="1"'), {UNSUPPORTED}),
    "a number": (svg('<rect width="1e30" height="9"/>'), {UNSUPPORTED}),
    "a bomb of masks": (svg(within_themselves("mask", "mask", "")), {TOO_MANY, TIMEOUT}),
    "a bomb of patterns": (
        svg(within_themselves("pattern", "fill", 'width="1" height="1" patternUnits="userSpaceOnUse"')),
        {TIMEOUT, TOO_MANY, CORRUPT},
    ),
    "endless filters": (filtered(BLURS), {TIMEOUT}),
    "many elements": (svg("<g/>" * 200_001), {UNSUPPORTED, TIMEOUT}),
    "many bytes": (svg("<!--" + " " * (16 << 20) + "-->"), {UNSUPPORTED}),
}


@pytest.mark.parametrize(("data", "codes"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_error_rows(data, codes):
    start = time.thread_time()
    assert refusal(data, max_seconds=0.8).code in codes
    assert time.thread_time() - start < 3


def test_a_picture_inside_is_under_the_same_limits():
    large = encoded(Image.new("L", (4000, 3000)), "PNG")

    href = f"data:image/png;base64,{base64.b64encode(large).decode()}"
    assert refusal(svg(f'<image width="99" height="99" href="{href}"/>')).code is TOO_MANY
    small = encoded(scene(), "PNG")
    href = f"data:image/png;base64,{base64.b64encode(small).decode()}"
    assert refusal(svg(f'<image width="99" height="99" href="{href}"/>'), max_pixels=6143).code is TOO_MANY


def mutants(count, seed):
    files = sorted(drawn().items())
    rng = random.Random(seed)
    for _ in range(count):
        text = rng.choice(files)[1]
        parts = re.split(rb'([<>"= ])', text)
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.randrange(len(parts))
            parts[at] = rng.choice((b"", parts[rng.randrange(len(parts))], b"1e9", b"-1", b"&lt;", bytes([rng.randrange(256)])))
        yield b"".join(parts)


def survive(count, seed):
    codes = {}
    for data in mutants(count, seed):
        code = ""
        try:
            decoded(data, max_seconds=5)
        except ImageError as error:
            code = error.code
        codes[code] = codes.get(code, 0) + 1
    return codes


def test_mutants_are_rows():
    codes = survive(120, 1)
    assert set(codes) <= {"", CORRUPT, UNSUPPORTED, TIMEOUT, TOO_MANY}
    assert sum(codes.values()) == 120


@pytest.mark.slow
def test_thousands_of_mutants_are_rows():
    codes = survive(4000, 2)
    assert set(codes) <= {"", CORRUPT, UNSUPPORTED, TIMEOUT, TOO_MANY}
    assert codes[""] > 150  # most are no XML any more


def test_the_shapes_of_the_tests_are_drawn():
    _, picture = decoded(svg(SHAPES))
    assert len({picture.getpixel((x, y)) for x in range(0, 960, 40) for y in range(0, 800, 40)}) > 6

"""Formats that no browser shows: off unless the setting `formats` names them, and then read through the same limits."""

import contextlib
import gzip
import io

import numpy as np
import pytest
from PIL import Image
from strange_icons import icons
from strange_pictures import scene
from typer.testing import CliRunner

from moderation.cli import app
from moderation.errors import ErrorCode, ImageError
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.tool_formats import ToolFormat
from moderation.images.unread import isolated_format


def saved(kind: str, image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def photoshop(image: Image.Image) -> bytes:
    width, height = image.size
    head = b"8BPS\0\1" + bytes(6) + b"\0\3" + height.to_bytes(4, "big") + width.to_bytes(4, "big") + b"\0\x08\0\3"
    return head + bytes(12) + b"\0\0" + b"".join(band.tobytes() for band in image.split())


def quite_ok(image: Image.Image) -> bytes:
    width, height = image.size
    pixels = b"".join(b"\xfe" + bytes(pixel) for pixel in np.asarray(image).reshape(-1, 3))
    return b"qoif" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\3\0" + pixels + bytes(7) + b"\1"


PICTURE = scene(60, 40)
FILES = {
    ToolFormat.JPEG2000: [saved("JPEG2000", PICTURE), saved("JPEG2000", PICTURE, no_jp2=True)],
    ToolFormat.PSD: [photoshop(PICTURE)],
    ToolFormat.TGA: [saved("TGA", PICTURE), saved("TGA", PICTURE, compression="tga_rle")],
    ToolFormat.PNM: [saved("PPM", PICTURE), b"P3 60 40 255\n" + b" ".join(b"%d" % v for v in PICTURE.tobytes())],
    ToolFormat.DDS: [saved("DDS", PICTURE)],
    ToolFormat.PCX: [saved("PCX", PICTURE)],
    ToolFormat.QOI: [quite_ok(PICTURE)],
}
EACH = [pytest.param(tool, data, id=f"{tool}-{number}") for tool, files in FILES.items() for number, data in enumerate(files)]


def decoded(data: bytes, **limits: object) -> np.ndarray:
    [(_, picture)] = DecodedImage(data, ImageLimits(**limits), 224).frames()  # type: ignore[arg-type]
    return np.asarray(picture)


@pytest.mark.parametrize(("tool", "data"), EACH)
def test_a_format_that_only_tools_show_is_off_and_its_error_names_the_setting(tool: ToolFormat, data: bytes) -> None:
    others = [one for one in ToolFormat if one is not tool]
    with pytest.raises(ImageError) as found:
        decoded(data, formats=others)
    assert (found.value.code, found.value.detail) == (
        ErrorCode.UNSUPPORTED_FORMAT,
        f"{tool.label} is off: --formats {tool.value}",
    )


@pytest.mark.parametrize(("tool", "data"), EACH)
def test_a_format_that_the_setting_names_is_scored_within_the_limits(tool: ToolFormat, data: bytes) -> None:
    assert np.abs(decoded(data, formats=[tool]).astype(int) - np.asarray(PICTURE)).mean() < 3
    image = DecodedImage(data, ImageLimits(formats=(tool,)))
    assert (image.header.width, image.header.height, image.header.frames) == (60, 40, 1)
    with pytest.raises(ImageError) as large:
        decoded(data, formats=[tool], max_pixels=60 * 40 - 1)
    assert large.value.code is ErrorCode.TOO_MANY_PIXELS
    with pytest.raises(ImageError) as slow:
        decoded(data, formats=[tool], max_seconds=1e-9)
    assert slow.value.code is ErrorCode.WORKER_TIMEOUT


@pytest.mark.parametrize(("tool", "data"), EACH)
def test_truncated_and_broken_tool_formats_are_error_rows(tool: ToolFormat, data: bytes) -> None:
    random = np.random.default_rng(3)
    for _ in range(60):
        broken = bytearray(data[: int(random.integers(4, len(data)))])
        for at in random.integers(4, len(broken) + 1, 4):
            broken[min(int(at), len(broken) - 1)] = int(random.integers(256))
        with contextlib.suppress(ImageError):  # anything else fails
            decoded(bytes(broken), formats=list(ToolFormat), max_pixels=1_000_000)


def test_text_files_are_not_taken_for_tool_formats() -> None:
    for data in (b"Pictures follow tomorrow, all of them.", b"P.S. I love you" * 3, b"PK\3\4" + bytes(60), b"\n\n\n\n" * 9):
        with pytest.raises(ImageError) as found:
            decoded(data, formats=list(ToolFormat))
        assert "not one of" in found.value.detail


def test_an_unknown_format_name_is_refused_in_one_line() -> None:
    found = CliRunner().invoke(app, ["run", "x", "--policy", "p.yaml", "--output", "o", "--formats", "jpeg2000,gimp"])
    assert found.exit_code != 0
    assert "--formats: input should be 'jpeg2000', 'psd', 'tga', 'pnm', 'dds', 'pcx' or 'qoi', got 'gimp'" in str(
        found.exception
    )


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
DOCTYPE = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd" [\n<!ENTITY a "b">\n]>'


@pytest.mark.parametrize(
    "data",
    [
        SVG,
        b"\xef\xbb\xbf  \n" + SVG,
        b'<?xml version="1.0"?>\n<!-- by hand > --> <!DOCTYPE svg>' + SVG,
        b'<?xml version="1.0"?>' + DOCTYPE + SVG,
        b"<s:svg xmlns:s='http://www.w3.org/2000/svg'></s:svg>",
        SVG.decode().encode("utf-16"),
    ],
)
def test_svg_is_known_whatever_stands_before_its_root(data: bytes) -> None:
    assert isolated_format(data) == "SVG"


@pytest.mark.parametrize("data", [b"\xff\x0a\xcb\x06\0\x13\x88\x02", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(30)])
def test_jpeg_xl_is_known_with_a_container_and_without(data: bytes) -> None:
    assert isolated_format(data) == "JXL"


def test_compressed_svg_is_not_read() -> None:
    with pytest.raises(ImageError) as found:
        decoded(gzip.compress(SVG, mtime=0))
    assert found.value.code is ErrorCode.UNSUPPORTED_FORMAT
    assert found.value.detail.startswith("SVGZ is not supported")


@pytest.mark.parametrize(
    "data",
    [
        b"<html><svg/></html>",
        b"<!--" + SVG,
        b"<",
        b"<!",
        b"<svgx/>",
        b"<?xml",
        b"<!DOCTYPE [",
        gzip.compress(b"text", mtime=0),
        b"\x1f\x8bno",
    ],
)
def test_a_file_that_merely_contains_such_a_picture_is_not_named(data: bytes) -> None:
    with pytest.raises(ImageError) as found:
        decoded(data)
    assert "not one of" in found.value.detail


def test_broken_icons_are_error_rows() -> None:
    random = np.random.default_rng(5)
    for data in icons().values():
        for _ in range(8):
            broken = bytearray(data[: int(random.integers(6, len(data) + 1))])
            for at in random.integers(4, min(len(broken), 80) + 1, 3):
                broken[min(int(at), len(broken) - 1)] = int(random.integers(256))
            with contextlib.suppress(ImageError):  # anything else fails
                decoded(bytes(broken))


def test_an_icon_says_what_it_is() -> None:
    found = {
        name: DecodedImage(icons()[name], ImageLimits())
        for name in ("PNG.ico", "small and large.ico", "two.cur", "cut at 70 %.ico")
    }
    headers = {name: (one.header.format, one.header.width, one.header.height) for name, one in found.items()}
    assert headers == {
        "PNG.ico": ("ICO", 64, 64),
        "small and large.ico": ("ICO", 64, 64),
        "two.cur": ("CUR", 48, 48),
        "cut at 70 %.ico": ("ICO", 48, 48),
    }
    assert [name for name, one in found.items() if one.damaged] == ["cut at 70 %.ico"]

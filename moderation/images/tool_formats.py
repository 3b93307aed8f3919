"""Formats that tools show and browsers do not: each is read only where the setting `formats` names it."""

from enum import StrEnum


class ToolFormat(StrEnum):
    """What `formats` can name. The value stands in settings."""

    JPEG2000 = "jpeg2000"
    PSD = "psd"
    TGA = "tga"
    PNM = "pnm"
    DDS = "dds"
    PCX = "pcx"
    QOI = "qoi"

    @property
    def label(self) -> str:
        """The format's name, for people."""
        return {ToolFormat.JPEG2000: "JPEG 2000", ToolFormat.PSD: "PSD (Photoshop)"}.get(self, self.value.upper())

    @property
    def parser(self) -> str:
        """Pillow's name of it."""
        return "PPM" if self is ToolFormat.PNM else self.value.upper()


PARSERS = frozenset(tool.parser for tool in ToolFormat)
"""The names that Pillow has for them."""

_MAGIC = {
    b"\xff\x4f\xff\x51": ToolFormat.JPEG2000,
    b"\0\0\0\x0cjP  \r\n\x87\n": ToolFormat.JPEG2000,
    b"8BPS": ToolFormat.PSD,
    b"DDS ": ToolFormat.DDS,
    b"qoif": ToolFormat.QOI,
}


def tool_format(data: bytes) -> ToolFormat | None:
    """The format by a file's first bytes, if it is one of these."""
    head = data[:18]
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[:1] == b"P" and head[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6", b"f", b"F") and head[2:3] in b" \t\r\n":
        return ToolFormat.PNM if len(head) > 2 else None
    if len(head) < 18:
        return None
    if head[0] == 10 and head[1] in (0, 2, 3, 5) and head[2] == 1 and head[3] in (1, 2, 4, 8):
        return ToolFormat.PCX
    # TGA has no magic: a colour map or none, a known kind of picture, a depth, some width and height.
    if head[1] < 2 and head[2] in (1, 2, 3, 9, 10, 11) and head[16] in (1, 8, 15, 16, 24, 32) and not head[17] & 0xC0:
        return ToolFormat.TGA if any(head[12:14]) and any(head[14:16]) else None
    return None

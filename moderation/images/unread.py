"""Formats that are known by their first bytes, and read by a library of their own or not at all."""

import zlib

JXL, SVG = "JXL", "SVG"
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_HEAD = 1 << 16
"""Bytes that are looked at."""
_SPACE = b" \t\r\n"
_ENDS = ((b"<!--", b"-->"), (b"<?", b"?>"), (b"<!", b">"))
"""What may stand before the root of an XML file, and how each ends; of a doctype with declarations inside, see below."""


def isolated_format(data: bytes) -> str:
    """JXL or SVG; "" for all other files."""
    if data.startswith(_JXL):
        return JXL
    return SVG if _is_svg(data[:_HEAD]) else ""


def is_compressed_svg(data: bytes) -> bool:
    """Whether it is an SVGZ, which browsers show only where a server says that it is compressed."""
    if not data.startswith(b"\x1f\x8b"):
        return False
    try:
        return _is_svg(zlib.decompressobj(31).decompress(data[:_HEAD], _HEAD))
    except zlib.error:
        return False


def _is_svg(head: bytes) -> bool:
    """Whether the root of an XML file is `svg`, with a prefix or without."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "replace").encode()
    head = head.removeprefix(b"\xef\xbb\xbf")
    at = 0
    while True:
        while head[at : at + 1] and head[at] in _SPACE:
            at += 1
        end = next((end for begin, end in _ENDS if head.startswith(begin, at)), None)
        if end is None:
            break
        if end == b">" and b"[" in head[at : head.find(b">", at) + 1]:  # a doctype with declarations
            end = b"]"
        found = head.find(end, at)
        if found < 0:
            return False
        at = found + len(end)
        if end == b"]":
            at = head.find(b">", at) + 1 or len(head)
    if head[at : at + 1] != b"<":
        return False
    name = head[at + 1 : at + 100].split(b">")[0].split(b"/")[0].split()
    return bool(name) and name[0].rpartition(b":")[2] == b"svg"

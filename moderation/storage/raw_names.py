"""Names of files in URIs.

A name is bytes, a URI is text. Bytes that are no UTF-8 stand in keys and URIs as U+FFFD and two hexadecimal digits each: a
Latin-1 "café" is "caf", U+FFFD, "e9". Where a name holds U+FFFD and two such digits itself, the bytes of that U+FFFD are
written so too. Two names never share a URI, all other names stand for themselves, and each can be read back.
"""

import os
import re
from urllib.parse import unquote, urlsplit

_MARK = "\ufffd"
_LITERAL = re.compile("\ufffd(?=[0-9a-f]{2})")
_RAW = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile(b"\xef\xbf\xbd([0-9a-f]{2})")


def escaped(raw: str) -> str:
    """A name or path, as `os.fsdecode` gives it, as it stands in keys and URIs: always valid UTF-8."""
    if raw.isascii():
        return raw
    text = _LITERAL.sub("".join(f"{_MARK}{byte:02x}" for byte in _MARK.encode()), raw)
    return _RAW.sub(lambda found: f"{_MARK}{ord(found[0]) - 0xDC00:02x}", text)


def raw_name(text: str) -> str | None:
    """What `escaped` made `text` of, for calls of `os`; None: it made it of nothing."""
    if text.isascii():
        return text
    try:
        raw = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode()).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    return raw if escaped(raw) == text else None


def file_uri(path: str) -> str:
    """The URI of an absolute path."""
    return f"file://{escaped(path)}"


def local_path(uri: str) -> str:
    """The path of a `file://` URI: of one that this program wrote if there is such a file, else of one with %-escapes."""
    text = uri[len("file://") :] or "/"
    raw = raw_name(text)
    if raw is not None and os.path.exists(raw):  # noqa: PTH110 - a `Path` cannot be made of everything
        return raw
    path = unquote(urlsplit(uri).path or "/", errors="surrogateescape")
    return raw_name(path) or path

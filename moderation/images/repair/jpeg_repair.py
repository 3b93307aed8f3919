"""JPEGs that Pillow refuses and browsers show: what the decoder lacks is given to it, what it need not see is taken away."""

from moderation.images.structure.jpeg import scans, segments

_END = b"\xff\xd9"
_APP0, _APP1, _APP2, _APP14, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
_LEAST = {_APP0: (b"JFIF\0", 14), _APP14: (b"Adobe", 12)}
_WANTED = {_APP1: b"Exif\0\0", _APP2: b"ICC_PROFILE\0"}


def without_broken_segments(data: bytes) -> bytes:
    """The same picture with those segments only that say what it looks like, and are as long as they must be."""
    out, position = [data[:2]], 2
    for marker, start, end in segments(data):
        if _needed(data, marker, start, end):
            out.append(data[start - 4 : end])
        position = end
    return b"".join([*out, data[position:]])


def _needed(data: bytes, marker: int, start: int, end: int) -> bool:
    if marker in _LEAST:
        name, length = _LEAST[marker]
        return data.startswith(name, start) and end - start >= length
    if marker in _WANTED:
        return data.startswith(_WANTED[marker], start)
    return not (_APP0 <= marker < _APP0 + 16 or marker == _COMMENT)


def is_progressive(data: bytes) -> bool:
    """Whether the whole picture comes in several scans, each finer than the one before."""
    return any(marker in (0xC2, 0xC6, 0xCA, 0xCE) for marker, _, _ in segments(data))


def ended(data: bytes) -> bytes | None:
    """A progressive JPEG with the end that it lacks. None if it ends in its first scan, of which browsers show some rows."""
    return data + _END if len(scans(data)) > 1 else None

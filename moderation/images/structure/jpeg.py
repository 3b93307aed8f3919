"""The segments of a JPEG up to its first scan, and where its scans are."""

from collections.abc import Iterator

from moderation.images.structure.survey import Survey, out_of_proportion

MAX_SEGMENTS = 4096
MAX_FRAME_HEADER = 1024
"""Bytes: 255 components, the most that can be, need 773."""
MAX_ARITHMETIC = 1 << 30
"""Pixels times scans of a JPEG whose decoder cannot be interrupted: some ten seconds."""
MAX_EXIF = 1 << 20
"""Bytes, over all segments; one alone holds 64 KB."""

_SOS, _APP1 = 0xDA, 0xE1
_FRAME_HEADERS = frozenset({*range(0xC0, 0xCF), 0xDE} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ARITHMETIC = frozenset({*range(0xC9, 0xD0)} - {0xCC})
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
"""Markers without a segment; 0x00 is a stuffed byte."""


def survey_jpeg(data: bytes) -> Survey:
    """The memory that the coefficients of a progressive JPEG need: all of them are held until the last scan.

    Raises:
        ImageError: corrupt, more segments or metadata than any sound file has.
    """
    exif = pixels = components = 0
    arithmetic = False
    planes = 0.0
    for count, (marker, start, end) in enumerate(segments(data)):
        if count == MAX_SEGMENTS:
            raise out_of_proportion(f"more than {MAX_SEGMENTS:,} JPEG segments")
        if marker in _FRAME_HEADERS:
            if end - start > MAX_FRAME_HEADER:
                raise out_of_proportion(f"a JPEG frame header of {end - start:,} bytes")
            height, width = int.from_bytes(data[start + 1 : start + 3]), int.from_bytes(data[start + 3 : start + 5])
            components = data[start + 5] if start + 5 < end else 0
            pixels, planes = width * height, _planes(data[start + 6 : end])
            arithmetic = marker in _ARITHMETIC
            if marker in _PROGRESSIVE:
                components = 0
        elif marker == _APP1 and data.startswith(b"Exif\0\0", start):
            exif += end - start
            if exif > MAX_EXIF:
                raise out_of_proportion(f"more than {MAX_EXIF:,} bytes of EXIF")
        elif marker == _SOS and start < end and data[start] != components:
            if arithmetic and ((count := len(scans(data))) == MAX_SEGMENTS or count * pixels > MAX_ARITHMETIC):
                raise out_of_proportion(f"an arithmetic JPEG of {pixels:,} pixels with {count:,} scans")
            return Survey(buffers=int(pixels * 2 * planes), arithmetic=arithmetic)
    return Survey(arithmetic=arithmetic)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of the content of each, the first scan's header the last of them."""
    position = data.find(b"\xff", 2)
    while 0 <= position < len(data) - 3:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        start = position + 2
        if marker not in _ALONE:
            end = start + max(2, int.from_bytes(data[start : start + 2]))
            yield marker, start + 2, min(end, len(data))
            if marker == _SOS:
                return
            start = end
        position = data.find(b"\xff", start)


def scans(data: bytes) -> list[int]:
    """Where the scans' headers start, up to `MAX_SEGMENTS` of them."""
    found: list[int] = []
    at = data.find(b"\xff\xda")
    while at >= 0 and len(found) < MAX_SEGMENTS:
        found.append(at)
        at = data.find(b"\xff\xda", at + 2)
    return found


def _planes(layers: bytes) -> float:
    """Samples for each pixel, by the sampling factors of a frame header's components (three bytes each)."""
    factors = [((layer >> 4) or 1, (layer & 15) or 1) for layer in layers[1::3]]
    if not factors:
        return 0.0
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    return sum(h * v for h, v in factors) / (across * down)

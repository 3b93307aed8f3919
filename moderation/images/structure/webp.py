"""The chunks of a WebP."""

from moderation.images.structure.survey import Survey, out_of_proportion

MAX_CHUNKS = 1 << 16
"""libwebp keeps 180 bytes for each, and walks the list of frames again for every frame."""


def survey_webp(data: bytes) -> Survey:
    """Count chunks only: Pillow knows the rest from the header.

    Raises:
        ImageError: corrupt, more chunks than any sound file has.
    """
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return Survey()
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + (length & 1)
    raise out_of_proportion(f"more than {MAX_CHUNKS:,} WebP chunks")

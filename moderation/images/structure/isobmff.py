"""What the boxes of an AVIF or HEIF say of its items, frames and codec."""

from collections.abc import Iterator

from moderation.images.guarding import Deadline
from moderation.images.structure.survey import Survey, out_of_proportion
from moderation.images.structure.tiff import check_exif

BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""The file types that are images."""
MAX_INDEX = 1 << 20
"""Bytes of the boxes that list a file's items or frames; their parsers look each item up among all others."""
MAX_FRAMES = 100_000


def survey_boxes(data: bytes, deadline: Deadline) -> Survey:
    """How fine the planes are that the codec unpacks.

    Raises:
        ImageError: corrupt, more items, frames or numbers in EXIF than any sound file has; worker_timeout.
    """
    check_exif(data, deadline)
    index = _index(data)
    for at in _found(index, b"stsz"):  # sample_count, behind the type, version, flags and sample_size
        frames = int.from_bytes(index[at + 12 : at + 16])
        if frames > MAX_FRAMES:
            raise out_of_proportion(f"{frames:,} frames")
    # AV1CodecConfigurationRecord: high_bitdepth and chroma_subsampling_x, _y in its third byte.
    av1 = [index[at + 6] for at in _found(index, b"av1C")]
    # HEVCDecoderConfigurationRecord: chromaFormat (1 is 4:2:0) and bitDepthLumaMinus8 in its bytes 16 and 17.
    hevc = [(index[at + 20], index[at + 21]) for at in _found(index, b"hvcC")]
    return Survey(
        deep=any(flags & 0x40 for flags in av1) or any(depth & 7 for _, depth in hevc),
        dense=any(flags & 0x0C != 0x0C for flags in av1) or any(chroma & 3 > 1 for chroma, _ in hevc),
        tiled=b"grid" in index,
        code_points=_code_points(index),
    )


def _index(data: bytes) -> bytes:
    """The boxes that list what is in the file, one behind the other."""
    index, position = b"", 0
    while position + 16 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16])
        end = position + max(8, size) if size else len(data)
        if kind in (b"meta", b"moov"):
            if len(index) + min(end, len(data)) - position > MAX_INDEX:
                raise out_of_proportion(f"lists of items or frames of more than {MAX_INDEX:,} bytes")
            index += data[position:end]
        position = end
    return index


def _code_points(index: bytes) -> tuple[int, ...]:
    """Of the first colour box; the matrix is the codec's affair."""
    at = index.find(b"colrnclx")
    return tuple(int.from_bytes(index[at + i : at + i + 2]) for i in (8, 10)) if 0 <= at < len(index) - 12 else ()


def _found(index: bytes, box: bytes) -> Iterator[int]:
    """Where the type of a box stands."""
    at = index.find(box)
    while 0 <= at < len(index) - 22:
        yield at
        at = index.find(box, at + 1)

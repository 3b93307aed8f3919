"""AVIF and HEIF files that their library refuses and browsers show, rewritten so that it opens them. Nothing moves in them."""

from collections.abc import Iterator

_INDEX = 1 << 20


def repairs(data: bytes) -> list[tuple[bytes, str]]:
    """What may be opened instead: without metadata, and with one list of properties."""
    without = data.replace(b"Exif\0", b"skip\0") if b"Exif\0" in data[:_INDEX] else data
    found = []
    if without != data:
        found.append((without, "the EXIF of the file is broken"))
    for start in (data, without):
        merged = with_one_list(start)
        if merged is not None:
            found.append((merged, "the file lists the properties of its images twice"))
    return found


def with_one_list(data: bytes) -> bytes | None:
    """The file with the entries of all `ipma` boxes in the first one; None if there are not several.

    The index goes to the end of the file, where it may be longer, and its old place is skipped: offsets stay right.
    """
    meta = next((box for box in boxes(data, 0, len(data)) if box[0] == b"meta"), None)
    if meta is None or meta[2] - meta[1] > _INDEX:
        return None
    _, start, end = meta
    iprp = next((box for box in boxes(data, start + 12, end) if box[0] == b"iprp"), None)
    if iprp is None:
        return None
    inner = list(boxes(data, iprp[1] + 8, iprp[2]))
    lists = [box for box in inner if box[0] == b"ipma" and box[2] - box[1] >= 16]
    heads = {data[low + 8 : low + 12] for _, low, _ in lists}
    if len(lists) < 2 or len(heads) != 1:
        return None
    count = sum(int.from_bytes(data[low + 12 : low + 16]) for _, low, _ in lists)
    entries = b"".join(data[low + 16 : high] for _, low, high in lists)
    one = _box(b"ipma", heads.pop() + count.to_bytes(4) + entries)
    others = b"".join(data[low:high] for kind, low, high in inner if kind != b"ipma")
    rest = b"".join(
        _box(b"iprp", others + one) if low == iprp[1] else data[low:high] for _, low, high in boxes(data, start + 12, end)
    )
    made = _box(b"meta", data[start + 8 : start + 12] + rest)
    return data[: start + 4] + b"free" + data[start + 8 :] + made


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the boxes between two places, as far as they are whole."""
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4])
        if size == 0:
            size = end - start
        if size == 1:
            size = int.from_bytes(data[start + 8 : start + 16])
        if size < 8 or start + size > end:
            return
        yield data[start + 4 : start + 8], start, start + size
        start += size


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4) + kind + content

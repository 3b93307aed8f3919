"""What there is of a picture whose pixels end or break in the middle, for formats of which browsers show that."""

from collections.abc import Callable, Iterator

from PIL import ImageFile

from moderation.images.guarding import Deadline
from moderation.images.opening import parse
from moderation.images.partial import load_partly
from moderation.images.repair import bmp_repair, gif_repair, jpeg_repair, png_repair

Errors = tuple[type[BaseException], ...]


def salvaged(
    data: bytes,
    kind: str,
    deadline: Deadline,
    errors: Errors,
    prepare: Callable[[ImageFile.ImageFile], None],
) -> Iterator[ImageFile.ImageFile]:
    """Loaded images that show what there is, the fullest first; none if nothing is left.

    Args:
        data: the file, whose header can be read.
        kind: its format.
        deadline: when time is over.
        errors: those that mean a broken file.
        prepare: called with each opened image before its pixels are loaded.
    """
    if kind == "JPEG" and jpeg_repair.is_progressive(data):
        ended = jpeg_repair.ended(data)
        image = _opened(ended, deadline, errors, prepare) if ended else None
        if image is not None and _loads(image, errors):
            yield image
    elif kind == "BMP":
        found = bmp_repair.bitmap(data)
        made = bmp_repair.rewritten(data, found, deadline) if found is not None else None
        yield from _partly(made or data, deadline, errors, prepare)
    elif kind == "GIF":
        whole = gif_repair.with_whole_blocks(data)
        yield from _partly(gif_repair.with_open_canvas(whole, deadline) or whole, deadline, errors, prepare)
    elif kind == "PNG":
        yield from _partly(png_repair.up_to_damage(data), deadline, errors, prepare)
    elif kind == "JPEG":
        yield from _partly(data, deadline, errors, prepare)


def _partly(
    data: bytes, deadline: Deadline, errors: Errors, prepare: Callable[[ImageFile.ImageFile], None]
) -> Iterator[ImageFile.ImageFile]:
    image = _opened(data, deadline, errors, prepare)
    try:
        shown = image is not None and load_partly(image, errors)
    except errors:
        return
    if image is not None and shown:
        yield image


def _opened(
    data: bytes, deadline: Deadline, errors: Errors, prepare: Callable[[ImageFile.ImageFile], None]
) -> ImageFile.ImageFile | None:
    try:
        image = parse(data, deadline)
        prepare(image)
    except errors:
        return None
    return image


def _loads(image: ImageFile.ImageFile, errors: Errors) -> bool:
    try:
        image.load()
    except errors:
        return False
    return True

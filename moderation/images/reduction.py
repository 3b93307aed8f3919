"""JPEGs far larger than the model's input are decoded at reduced scale: how far, and where the picture then lies."""

from dataclasses import dataclass

from PIL import JpegImagePlugin

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels"""

_ORDINARY = 4
"""JPEGs whose shorter side is less than this many times the model's input are decoded whole, to the bit."""
_LEAST = 1.6
"""Others keep at least this many pixels for each of the input; below, embeddings would move further than 0.999."""
_INPUT = 224
"""Models with smaller inputs are treated as if they had this one: saving more is not worth the difference."""

_TURNED = frozenset({5, 6, 7, 8})
_FROM_RIGHT = frozenset({2, 3, 6, 7})
_FROM_BOTTOM = frozenset({3, 4, 7, 8})


@dataclass(frozen=True, slots=True)
class Reduction:
    """Where the picture lies within the pixels of a reduced decode, which extend slightly past its edges."""

    size: tuple[int, int]
    """width and height of the whole picture, upright"""
    box: Box
    """what shows it, in pixels of the reduced picture, upright"""


def reduce(image: JpegImagePlugin.JpegImageFile, target_size: int, orientation: int) -> Reduction | None:
    """Have an opened JPEG decoded at 1/2, 1/4 or 1/8 of its size if it is large enough for that. None: it is decoded whole.

    Args:
        image: a file whose pixels have not been loaded.
        target_size: the model's input in pixels.
        orientation: the file's EXIF orientation.
    """
    whole = image.size
    side = max(target_size, _INPUT)
    if min(whole) < _ORDINARY * side:
        return None
    least = int(_LEAST * side)
    drafted = image.draft(None, (least, least))
    if drafted is None or image.size == whole:
        return None
    turned = orientation in _TURNED
    _, (_, _, right, bottom) = drafted
    (width, height), (across, down) = (image.size[::-1], (bottom, right)) if turned else (image.size, (right, bottom))
    left = width - across if orientation in _FROM_RIGHT else 0.0
    top = height - down if orientation in _FROM_BOTTOM else 0.0
    return Reduction(whole[::-1] if turned else whole, (left, top, left + across, top + down))

"""How large a browser shows an SVG that a page includes as an image."""

import math
import re
from collections.abc import Mapping

_LENGTH = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(px|pt|pc|mm|cm|in|em|rem|%)?\s*")
_UNITS = {None: 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0, "em": 16.0, "rem": 16.0}
_DEFAULT = (300.0, 150.0)
MAX_ASPECT = 1024.0
MAX_SIDE = 1e6
SIDE = 1024
"""Most pixels of the longer side of what is drawn: an SVG has none of its own, and this is four times a model's input."""


class NoSizeError(ValueError):
    """The size is nothing, or nothing that is known here."""


def natural_size(root: Mapping[str, str]) -> tuple[float, float]:
    """Width and height in CSS pixels, by the attributes of the root. Raises NoSizeError."""
    width, height = _length(root.get("width", "auto")), _length(root.get("height", "auto"))
    box = view_box(root)
    ratio = box[2] / box[3] if box else None
    if width is not None and height is not None:
        size = (width, height)
    elif width is not None:
        size = (width, width / ratio if ratio else _DEFAULT[1])
    elif height is not None:
        size = (height * ratio if ratio else _DEFAULT[0], height)
    elif ratio:
        size = (_DEFAULT[1] * ratio, _DEFAULT[1]) if ratio < _DEFAULT[0] / _DEFAULT[1] else (_DEFAULT[0], _DEFAULT[0] / ratio)
    else:
        size = _DEFAULT
    if not 0 < min(size) <= max(size) <= MAX_SIDE:
        raise NoSizeError(f"its size is {size[0]:.6g} x {size[1]:.6g}")
    return size


def drawn_size(natural: tuple[float, float]) -> tuple[int, int]:
    """Width and height in pixels of what is drawn. Raises NoSizeError."""
    scale = SIDE / max(natural)
    scale = math.floor(scale) if scale >= 1 else scale  # so that the tiles of patterns are of whole pixels
    if max(natural) / min(natural) > MAX_ASPECT:
        raise NoSizeError(f"one side is more than {MAX_ASPECT:,.0f} times the other")
    return max(1, round(natural[0] * scale)), max(1, round(natural[1] * scale))


def view_box(root: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    """That of the root; None if it has none that means anything."""
    try:
        left, top, width, height = (float(one) for one in re.split(r"[\s,]+", root.get("viewBox", "").strip()))
    except ValueError:
        return None
    return (left, top, width, height) if width > 0 and height > 0 else None


def _length(text: str) -> float | None:
    found = _LENGTH.fullmatch(text)
    if found is None:
        if text.strip() in ("auto", ""):
            return None
        raise NoSizeError(f"its size is {text[:40]!r}")
    number, unit = found.groups()
    return None if unit == "%" else float(number) * _UNITS[unit]

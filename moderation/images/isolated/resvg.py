"""resvg draws an SVG. It runs in the decoding process only, and gets an SVG that refers to nothing outside."""

import mmap
import sys
from collections.abc import Callable

from moderation.images.isolated.child import Order, write

Draw = Callable[..., bytes]


def load(folder: str) -> Draw:
    """The package's function, from the folder in which it lies."""
    sys.path.append(folder)
    from resvg_py import svg_to_bytes  # noqa: PLC0415 - from there

    return svg_to_bytes


def decode(draw: Draw, order: Order, data: mmap.mmap) -> dict[str, object]:
    """Draw; the output is a PNG of the size that the root has."""
    picture = draw(svg_string=bytes(data).decode(), skip_system_fonts=True, font_size=16.0)
    write(order.target, picture)
    return {"bytes": len(picture)}

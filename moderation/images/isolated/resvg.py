"""resvg draws an SVG. It runs in the decoding process only, and gets an SVG that refers to nothing outside."""

import importlib
import mmap
import sys
from types import ModuleType

from moderation.images.isolated.child import Order, write


def load(folder: str) -> ModuleType:
    """The package, from the folder in which it lies."""
    sys.path.append(folder)
    return importlib.import_module("resvg_py")


def decode(resvg: ModuleType, order: Order, data: mmap.mmap) -> dict[str, object]:
    """Draw; the output is a PNG of `width` times `height` pixels."""
    picture = resvg.svg_to_bytes(svg_string=bytes(data).decode(), skip_system_fonts=True, font_size=16.0)
    write(order.output, picture)
    return {"bytes": len(picture)}

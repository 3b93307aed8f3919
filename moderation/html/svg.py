"""What drawings are made of: inline SVG, so that they are sharp, small and follow the page's colours, light and dark. Pure.

The same input gives the same text. Colours are classes of the page's style sheet.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 330
"""User units of a drawing; the page scales it."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Where a drawing's plane lies, in user units, and the values at its edges."""

    height: int
    left: float
    right: float
    top: float
    bottom: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """From a value to user units."""
        return self.left + (value - self.low) / ((self.high - self.low) or 1.0) * (self.right - self.left)

    def y(self, share: float) -> float:
        """From a share of the height, 0 at the bottom, to user units."""
        return self.bottom - share * (self.bottom - self.top)


def svg(parts: Sequence[Markup], height: int, label: str) -> Markup:
    """The drawing as one element, with its content in words for those who cannot see it."""
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, label)
    return head + Markup("").join(parts) + Markup("</svg>")


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> Markup:
    """One line of text."""
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(f(x), f(y), kind, anchor, content)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """One straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(f(x1), f(y1), f(x2), f(y2), kind)


def path(places: Iterable[tuple[float, float]], kind: str) -> Markup:
    """A line through places in user units."""
    return Markup('<polyline class="{}" points="{}"/>').format(kind, _points(places))


def area(places: Iterable[tuple[float, float]], kind: str) -> Markup:
    """What a closed line through places in user units goes around."""
    return Markup('<polygon class="{}" points="{}"/>').format(kind, _points(places))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`: steps of 1, 2, 2.5 or 5 times a power of ten, at most `most` of them."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * nice for nice in (1, 2, 2.5, 5) if power * nice >= rough - 1e-12), power * 10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 6) + 0.0 for index in range(first, last + 1)]


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{f(x)},{f(y)}" for x, y in places)


def f(value: float) -> str:
    """A coordinate, to a hundredth of a unit."""
    return f"{value:.2f}".rstrip("0").rstrip(".")

"""What drawings are made of: inline SVG, so that they are sharp, small and follow the page's colours, light and dark. Pure.

The same input gives the same text. Colours are classes of the page's style sheet.
"""

from collections.abc import Sequence
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


def f(value: float) -> str:
    """A coordinate, to a hundredth of a unit."""
    return f"{value:.2f}".rstrip("0").rstrip(".")

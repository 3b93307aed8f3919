"""Score histograms as inline SVG. Matplotlib draws; colours are CSS variables, so that light and dark both work."""

import io
import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from moderation.policy.schema import Mode, Rule
from moderation.report.text import number, threshold
from moderation.results.aggregates import RuleAggregate

WIDTH, HEIGHT = 330, 150
"""User units of the drawing; the page scales it."""
_FONT_SIZE = 9.0
_LEFT = 0.115
_FLOOR = 0.6
"""Where bars begin on the log scale, so that a single image is a bar that can be seen."""

# Drawn in colours that nothing else has, then replaced by the page's variables.
_INK, _GRID, _BAR, _REVIEW, _BLOCK = "#000001", "#000002", "#000003", "#000004", "#000005"
_COLOURS = {
    _INK: "var(--muted)",
    _GRID: "var(--line)",
    _BAR: "var(--bar)",
    _REVIEW: "var(--review)",
    _BLOCK: "var(--block)",
}


def histogram(rule: Rule, aggregate: RuleAggregate) -> str:
    """The histogram of one rule's scores as an `<svg>` element: log-scaled counts, thresholds as marked lines.

    The same input gives the same text. Ids are made from the rule's id, so that several drawings share a page.
    """
    drawn = io.StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever a matplotlibrc on this machine says
        mpl.rcParams["svg.fonttype"] = "none"
        mpl.rcParams["svg.hashsalt"] = rule.id
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        axes = figure.add_axes((_LEFT, 0.21, 0.98 - _LEFT, 0.60))
        _draw_bars(axes, aggregate)
        _draw_thresholds(axes, rule, aggregate)
        _style(axes, aggregate)
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(drawn.getvalue(), rule, aggregate)


def describe(rule: Rule, aggregate: RuleAggregate) -> str:
    """The drawing in words, for those who cannot see it."""
    marks = [
        f"{name} from {threshold(value)}"
        for name, value in (("review", rule.review), ("block", rule.block))
        if value is not None
    ]
    return (
        f"Histogram of {number(sum(aggregate.histogram))} scores of the rule {rule.id}, "
        f"lowest {aggregate.minimum:.3f}, highest {aggregate.maximum:.3f}; {', '.join(marks)}"
    )


def _draw_bars(axes: Axes, aggregate: RuleAggregate) -> None:
    edges = _edges(aggregate)
    width = edges[1] - edges[0]
    heights = [max(count - _FLOOR, 0.0) for count in aggregate.histogram]
    bars = axes.bar(edges[:-1] + width / 2, heights, width=width * 0.86, bottom=_FLOOR, color=_BAR, log=True, zorder=3)
    for index, bar in enumerate(bars):
        bar.set_gid(f"bin-{index}")


def _draw_thresholds(axes: Axes, rule: Rule, aggregate: RuleAggregate) -> None:
    """Lines at the thresholds, each with its label above the plot: block on the upper row, review on the lower."""
    low, high = _span(rule, aggregate)
    style = "--" if rule.mode is Mode.SHADOW else "-"
    ends = (rule.block if rule.block is not None else high, high)
    rows = (("review", rule.review, ends[0], _REVIEW, 1.06), ("block", rule.block, ends[1], _BLOCK, 1.19))
    for name, value, end, colour, row in rows:
        if value is None:
            continue
        axes.axvspan(value, max(value, end), color=colour, alpha=0.10, linewidth=0, zorder=1)
        axes.plot([value, value], [0, row - 0.01], color=colour, linewidth=1.3, linestyle=style,
                  transform=axes.get_xaxis_transform(), clip_on=False, zorder=4)  # fmt: skip
        right = value > (low + high) / 2
        axes.annotate(f"{name} {threshold(value)}", (value, row), (-4 if right else 4, 0), textcoords="offset points",
                      xycoords=axes.get_xaxis_transform(), color=colour, fontsize=_FONT_SIZE, weight="bold",
                      ha="right" if right else "left", va="center", annotation_clip=False)  # fmt: skip
    axes.set_xlim(low, high)


def _style(axes: Axes, aggregate: RuleAggregate) -> None:
    highest = max(aggregate.histogram, default=0)
    axes.set_ylim(_FLOOR, max(10.0, highest * 1.6))
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value, 6) + 0.0:.4g}"))
    axes.tick_params(length=0, labelsize=_FONT_SIZE, labelcolor=_INK, pad=4)
    axes.grid(axis="y", color=_GRID, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_INK)
    axes.spines["bottom"].set_linewidth(0.8)
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    axes.set_xlabel("score", color=_INK, fontsize=_FONT_SIZE, labelpad=3)
    axes.text(-_LEFT / (0.98 - _LEFT), 1.06, "images", color=_INK, fontsize=_FONT_SIZE, transform=axes.transAxes, va="center")


def _span(rule: Rule, aggregate: RuleAggregate) -> tuple[float, float]:
    """The scores shown. Cosines use a small part of -1 to 1: only that part, and the thresholds, are drawn."""
    if aggregate.low >= 0:
        return aggregate.low, aggregate.high
    edges = _edges(aggregate)
    used = [i for i, count in enumerate(aggregate.histogram) if count] or [len(edges) // 2]
    margin = 2 * (edges[1] - edges[0])
    low, high = min(edges[used[0]], *rule.thresholds), max(edges[used[-1] + 1], *rule.thresholds)
    return max(aggregate.low, float(low - margin)), min(aggregate.high, float(high + margin))


def _edges(aggregate: RuleAggregate) -> np.ndarray:
    return np.linspace(aggregate.low, aggregate.high, len(aggregate.histogram) + 1)


def _short(value: float, _: object = None) -> str:
    """1, 10, 100, 1k, 10k, 1M."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def _inline(svg: str, rule: Rule, aggregate: RuleAggregate) -> str:
    """Matplotlib's file as an element of an HTML page: no prolog, no namespaces, no style sheet, no shared ids."""
    root = ElementTree.fromstring(svg)  # noqa: S314  (drawn above)
    edges = _edges(aggregate)
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(root.iter()):
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: _recolour(value) for name, value in element.attrib.items()}
        if element.tag in ("metadata", "style"):
            parents[element].remove(element)
        elif element.tag == "clipPath":
            element.set("id", f"{rule.id}-{element.attrib['id']}")
        else:
            found = re.fullmatch(r"bin-(\d+)", element.attrib.pop("id", ""))
            if found:
                index = int(found[1])
                title = ElementTree.Element("title")
                title.text = f"{edges[index]:.4g} to {edges[index + 1]:.4g}: {number(aggregate.histogram[index])}"
                element.insert(0, title)
                element.set("class", "bin")
        if "clip-path" in element.attrib:
            element.set("clip-path", element.attrib["clip-path"].replace("url(#", f"url(#{rule.id}-"))
    root.attrib = {
        "class": "chart",
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": describe(rule, aggregate),
    }
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
    return re.sub(r">\s+<", "><", text)


def _recolour(value: str) -> str:
    """Sentinel colours as CSS variables; without a font family, so that the page's is used."""
    value = re.sub(r"#00000[1-5]", lambda match: _COLOURS[match[0]], value)
    return re.sub(r"font-family:[^;]*;?", "", value)

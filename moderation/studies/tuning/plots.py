"""Drawings of a rule's curves as PNG and SVG, by matplotlib. The same numbers give the same bytes."""

import io
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from moderation.studies.tuning.thresholds import Point, Unreachable
from moderation.studies.tuning.tune import RuleTuning, Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 400
_BINS = 40
_STYLE: Any = {
    "svg.hashsalt": "moderate policy tune",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e1e4ea",
    "grid.linewidth": 0.6,
    "text.parse_math": False,
}
_PRECISION, _RECALL, _TRUE, _FALSE, _CHOSEN = "#2251c5", "#1d7446", "#b3261e", "#6b7a92", "#171b22"


def drawing(one: RuleTuning, target: Target | None, kind: Literal["png", "svg"]) -> bytes:
    """Three plots: precision and recall by threshold, one against the other, and the scores of both kinds of labels."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(12, 3.7), layout="constrained")
        by_threshold, against, scores = figure.subplots(1, 3)
        _by_threshold(by_threshold, one, target)
        _against(against, one, target)
        _scores(scores, one)
        figure.legend(*by_threshold.get_legend_handles_labels(), fontsize=8, loc="outside lower left", ncols=5, frameon=False)
        figure.suptitle(f"{one.rule.id}: {one.sample.positives:,} true, {one.sample.negatives:,} false labels", fontsize=10)
        out = io.BytesIO()
        if kind == "png":
            FigureCanvasAgg(figure).print_figure(out, format="png", dpi=150, metadata={"Software": None})
        else:
            FigureCanvasSVG(figure).print_figure(out, format="svg", metadata={"Date": None, "Creator": None})
        return out.getvalue()


def _by_threshold(axes: "Axes", one: RuleTuning, target: Target | None) -> None:
    keep = _thinned(len(one.curve.thresholds))
    x = one.curve.thresholds[keep].astype(np.float64)
    for name, found, colour in (("precision", one.curve.precision, _PRECISION), ("recall", one.curve.recall, _RECALL)):
        axes.fill_between(x, found.low[keep], found.high[keep], color=colour, alpha=0.15, linewidth=0, step="post")
        axes.step(x, found.value[keep], color=colour, label=name, linewidth=1.4, where="post")
        if target is not None and target.measure == name:
            axes.axhline(target.value, color=colour, linewidth=0.8, linestyle=":")
    point = _marked(one)
    if point is not None:
        axes.axvline(point.threshold, color=_CHOSEN, linewidth=1, label=f"{_name(one)} {point.threshold:g}")
    for key, current in one.now:
        axes.axvline(current.threshold, color=_CHOSEN, linewidth=0.8, linestyle="--", label=f"{key} now {current.threshold:g}")
    axes.set(xlabel="threshold", ylim=(0, 1.02), title="With 95 % bands for the whole curve")


def _against(axes: "Axes", one: RuleTuning, target: Target | None) -> None:
    keep = _thinned(len(one.curve.thresholds))
    recall, precision = one.curve.recall.value[keep], one.curve.precision
    axes.fill_between(recall, precision.low[keep], precision.high[keep], color=_PRECISION, alpha=0.15, linewidth=0)
    axes.plot(recall, precision.value[keep], color=_PRECISION, linewidth=1.4)
    point = _marked(one)
    if point is not None and point.precision is not None:
        x, y = point.recall, point.precision
        axes.errorbar(
            x.value,
            y.value,
            xerr=[[x.value - x.low], [x.high - x.value]],
            yerr=[[y.value - y.low], [y.high - y.value]],
            fmt="o",
            color=_CHOSEN,
            markersize=4,
            linewidth=1,
            capsize=2,
        )
    if target is not None and target.measure == "precision":
        axes.axhline(target.value, color=_PRECISION, linewidth=0.8, linestyle=":")
    if target is not None and target.measure == "recall":
        axes.axvline(target.value, color=_RECALL, linewidth=0.8, linestyle=":")
    area = one.area
    title = f"Average precision {area.value:.3f} ({area.low:.3f} to {area.high:.3f})"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), title=title)


def _scores(axes: "Axes", one: RuleTuning) -> None:
    sample = one.sample
    edges = np.linspace(float(sample.scores[-1]), float(sample.scores[0]) or 1.0, _BINS + 1)
    if edges[0] == edges[-1]:
        edges = np.linspace(edges[0] - 0.01, edges[0] + 0.01, _BINS + 1)
    for name, rows, colour in (("false", ~sample.truth, _FALSE), ("true", sample.truth, _TRUE)):
        axes.hist(
            sample.scores[rows].astype(np.float64), bins=edges.tolist(), color=colour, alpha=0.55, label=f"labelled {name}"
        )
    point = _marked(one)
    if point is not None:
        axes.axvline(point.threshold, color=_CHOSEN, linewidth=1)
    axes.set(xlabel="score", ylabel="labels", title="Scores of the labelled images")
    axes.legend(fontsize=7.5, framealpha=0.85)


def _marked(one: RuleTuning) -> Point | None:
    return one.found.best if isinstance(one.found, Unreachable) else one.chosen


def _name(one: RuleTuning) -> str:
    return "closest" if isinstance(one.found, Unreachable) else f"{one.key} tuned"


def _thinned(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(np.int64))

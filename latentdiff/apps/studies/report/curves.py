"""The style of the curves in the studies: panels with axes, units and intervals.

Rows of images are drawn by viz/rows.py, grids by viz/figures.py; StudyContext saves all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.viz.figures import COLORS, FAINT, new_figure, readable_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Sequence[float] | Tensor | NDArray[Any]
Style = Literal["line", "dashed", "points", "thin", "marked"]
STYLES: dict[str, dict[str, Any]] = {
    "line": {"linewidth": 1.6},
    "dashed": {"linewidth": 1.1, "linestyle": (0, (4, 2))},
    "points": {"linestyle": "none", "marker": "o", "markersize": 4},
    "thin": {"linewidth": 0.8, "alpha": 0.7},
    "marked": {"linewidth": 1.4, "marker": "o", "markersize": 4},
}
MOST_COLUMNS = 4  # panels beside each other
CROWDED = 4  # names in a legend that several panels share: more stand below all of them
LOG = 3.0  # the span from which on an axis is logarithmic: below it there would be one tick


@dataclass(frozen=True)
class Curve:
    """y over x; ``low`` and ``high`` draw an interval around it.

    ``color`` is an index of the list of colours (default: the curve's place, for a dashed one black); -1:
    faint.
    """

    label: str
    x: Values
    y: Values
    style: Style = "line"
    color: int | None = None
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Panel:
    """Axes with curves. Labels carry the units; a log axis leaves out what is not positive."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False
    legend: bool = True
    levels: Sequence[tuple[str, float]] = ()  # horizontal lines to compare with


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """Panels side by side, at most four a row."""
    columns = len(panels) if len(panels) <= MOST_COLUMNS else -(-len(panels) // 2)
    columns = 2 if len(panels) == MOST_COLUMNS else columns
    rows = -(-len(panels) // columns)
    figure = new_figure(4.3 * columns if columns > 1 else 6.4, 3.5 * rows if columns > 1 else 3.8)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    labels = [_labels(panel) for panel in panels]
    shared = len(panels) > 1 and len(labels[0]) > CROWDED and all(each == labels[0] for each in labels)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, replace(panel, legend=False) if shared else panel)
    if shared:
        handles, names = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=-(-len(names) // 2), frameon=False)
    return figure


def _labels(panel: Panel) -> list[str]:
    """What a legend of the panel names."""
    return [name for name in (*(c.label for c in panel.curves), *(n for n, _ in panel.levels)) if name]


def _color(curve: Curve, place: int) -> str:
    """The colour of a curve that stands at a place in its panel."""
    if curve.color is None and curve.style == "dashed":
        return "black"
    index = place if curve.color is None else curve.color
    return FAINT if index < 0 else COLORS[index % len(COLORS)]


def _spans(axes: Axes) -> float:
    """The largest of the drawn values over the smallest; infinite for none and where one is 0 or less."""
    values = np.concatenate([np.empty(0), *(np.asarray(line.get_ydata(), float) for line in axes.lines)])
    return float(values.max() / values.min()) if len(values) and values.min() > 0 else np.inf


def _draw(axes: Axes, panel: Panel) -> None:
    for place, curve in enumerate(panel.curves):
        x, y = (np.asarray(values, dtype=float) for values in (curve.x, curve.y))
        keep = np.isfinite(y) & ((y > 0) | (not panel.log_y)) & ((x > 0) | (not panel.log_x))
        color = _color(curve, place)
        axes.plot(x[keep], y[keep], label=curve.label or None, color=color, **STYLES[curve.style])
        if curve.low is not None and curve.high is not None:
            low, high = (np.asarray(values, dtype=float)[keep] for values in (curve.low, curve.high))
            axes.fill_between(x[keep], low, high, color=color, alpha=0.15, linewidth=0)
    for name, value in panel.levels:
        axes.axhline(value, color=FAINT, linewidth=1, linestyle=":", label=name)
    axes.set(
        xlabel=panel.x,
        ylabel=panel.y,
        xscale="log" if panel.log_x else "linear",
        yscale="log" if panel.log_y and _spans(axes) >= LOG else "linear",
    )
    for axis in (axes.xaxis, axes.yaxis):
        readable_log(axis)
    axes.set_title(panel.title, fontsize=11)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if panel.legend and len({*_labels(panel)}) > 1:
        axes.legend(frameon=False, fontsize=8.5)

"""Figures of the studies in one look: curves with axes and units, rows of images with labels, grids side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from latentdiff.data import to_uint8
from latentdiff.picture import Pixels
from latentdiff.plots import COLORS, FAINT, new_figure, readable_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = Literal["line", "dashed", "points", "thin", "marked"]
STYLES: dict[str, dict[str, Any]] = {
    "line": {"linewidth": 1.6},
    "dashed": {"linewidth": 1.1, "linestyle": (0, (4, 2)), "color": "black"},
    "points": {"linestyle": "none", "marker": "o", "markersize": 4},
    "thin": {"linewidth": 0.8, "alpha": 0.7},
    "marked": {"linewidth": 1.4, "marker": "o", "markersize": 4},
}
MOST_COLUMNS = 4  # panels beside each other
CELL = 0.62  # inches for an image in a row
GAP = 2  # pixels between images
ENLARGED = 4


@dataclass(frozen=True)
class Curve:
    """y over x; ``low`` and ``high`` draw an interval around it. ``color`` is a place in the list of colours; -1: faint."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
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

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """Panels beside each other, at most four a row."""
    columns = len(panels) if len(panels) <= MOST_COLUMNS else -(-len(panels) // 2)
    columns = 2 if len(panels) == MOST_COLUMNS else columns
    rows = -(-len(panels) // columns)
    figure = new_figure(4.3 * columns if columns > 1 else 6.4, 3.5 * rows if columns > 1 else 3.8)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, panel)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    for place, curve in enumerate(panel.curves):
        x, y = (np.array(values, dtype=float) for values in (curve.x, curve.y))
        keep = np.isfinite(y) & ((y > 0) | (not panel.log_y)) & ((x > 0) | (not panel.log_x))
        place = place if curve.color is None else curve.color
        color = FAINT if place < 0 else COLORS[place % len(COLORS)]
        style = {"color": color} | STYLES[curve.style]
        axes.plot(x[keep], y[keep], label=curve.label or None, **style)
        if curve.low is not None and curve.high is not None:
            low, high = (np.array(values, dtype=float)[keep] for values in (curve.low, curve.high))
            axes.fill_between(x[keep], low, high, color=style["color"], alpha=0.15, linewidth=0)
    for name, value in panel.levels:
        axes.axhline(value, color=FAINT, linewidth=1, linestyle=":", label=name)
    axes.set(
        xlabel=panel.x,
        ylabel=panel.y,
        xscale="log" if panel.log_x else "linear",
        yscale="log" if panel.log_y else "linear",
    )
    for axis in (axes.xaxis, axes.yaxis):
        readable_log(axis)
    axes.set_title(panel.title, fontsize=11)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if panel.legend and len({*(c.label for c in panel.curves), *(n for n, _ in panel.levels)} - {""}) > 1:
        axes.legend(frameon=False, fontsize=8.5)


def draw_rows(rows: Sequence[tuple[str, Tensor]], *, columns: Sequence[str] = ()) -> Figure:
    """Images in rows with a label at the left of each row; ``columns`` are written above.

    Each row's images are [n, C, H, W], uint8 or float in [-1, 1]; shorter rows end in white.
    """
    most = max(len(images) for _, images in rows)
    picture, step_y, step_x = _canvas([images for _, images in rows], most)
    side = min(CELL, 11.0 / most)
    margin = 0.1 * max(len(line) for name, _ in rows for line in name.split("\n")) + 0.25
    heads = [line for name in columns for line in name.split("\n")]
    letters = max(9.0 * min(1.0, side / (0.075 * max(map(len, heads), default=1))), 5.0)  # neighbours must not touch
    lines = max((name.count("\n") + 1 for name in columns), default=0)
    height = len(rows) * side * step_y / step_x + (0.15 + 0.2 * lines * letters / 9 if columns else 0.1)
    figure = new_figure(margin + side * most, height)
    axes = figure.subplots()
    axes.imshow(picture)
    axes.set_anchor("E")  # what is left over goes to the labels
    axes.set_yticks([step_y * (k + 0.5) for k in range(len(rows))], [name for name, _ in rows], fontsize=9)
    axes.set_xticks([step_x * (k + 0.5) for k in range(len(columns))], list(columns), fontsize=letters)
    axes.tick_params(length=0, top=False, labeltop=bool(columns), bottom=False, labelbottom=False)
    for edge in axes.spines.values():
        edge.set_visible(False)
    return figure


def _canvas(rows: Sequence[Tensor], most: int) -> tuple[Pixels, int, int]:
    """The images on white, enlarged, and the height and width of a cell in pixels."""
    height, width = rows[0].shape[2] + GAP, rows[0].shape[3] + GAP
    canvas = np.full((len(rows) * height, most * width, 3), 255, dtype=np.uint8)
    for y, images in enumerate(rows):
        pixels = images if images.dtype == torch.uint8 else to_uint8(images)
        for x, image in enumerate(pixels.cpu().permute(0, 2, 3, 1).numpy()):
            canvas[y * height + 1 : (y + 1) * height - 1, x * width + 1 : (x + 1) * width - 1] = image
    return canvas.repeat(ENLARGED, 0).repeat(ENLARGED, 1), height * ENLARGED, width * ENLARGED


def folded(text: str, width: int = 28) -> str:
    """A text in lines that fit beside a row of images."""
    return "\n".join(textwrap.wrap(text, width)) or "(no text)"


def origin(rows: Sequence[tuple[str, Tensor]], columns: Sequence[str], about: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json keeps of a figure of images."""
    return {
        "rows": [name for name, _ in rows],
        "columns": list(columns),
        "images": [len(images) for _, images in rows],
        **about,
    }

"""Figures with axes, drawn by matplotlib (imported when the first one is drawn)."""

from __future__ import annotations

import gc
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentdiff.config.recipe import MadeWith
from latentdiff.files.writing import write_whole
from latentdiff.viz.images import Pixels, text_chunks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, SECOND, FAINT = "#1f4e79", "#c8553d", "#9a9a9a"
COLORS = [INK, SECOND, "#3a7d44", "#8e5aa8", "#c99a2e"]


class Math(str):
    """A label with formulas between dollar signs; in every other label a dollar sign is a dollar sign."""

    __slots__ = ()

    def __str__(self) -> Math:  # matplotlib keeps str(label)
        return self


def new_figure(width: float, height: float) -> Figure:
    """A figure (inches) of its own, without pyplot's global state.

    Frees earlier figures that are no longer referenced.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # a figure is full of reference cycles: megabytes, which a collector that counts objects leaves for long
    gc.collect()
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def drawable(text: str) -> str:
    """The text with what no font can draw escaped: control characters, and bytes that are not UTF-8."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs") else ascii(c)[1:-1] for c in text
    )


def readable_log(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 on a log axis of less than two decades, where powers of ten say little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    if axis.get_scale() == "log" and high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def save_figure(figure: Figure, path: Path, *, recipe: MadeWith | None = None) -> None:
    """Write as PNG, whole or not at all, with what it was made with. InputError where it cannot be written.

    Labels are drawn as they stand (names of folders, prompts) unless they are :class:`Math`.
    """
    from matplotlib.axis import Axis
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator, FuncFormatter

    about = text_chunks(recipe)
    for axis in figure.findobj(Axis):
        fixed = isinstance(axis.get_major_locator(), FixedLocator)
        if fixed and isinstance(axis.get_major_formatter(), FuncFormatter):
            axis.set_ticklabels([drawable(label.get_text()) for label in axis.get_majorticklabels()])
    # numbers of axes have no text yet; matplotlib may write them as formulas
    for label in figure.findobj(Text):
        text = label.get_text()
        if text and not isinstance(text, Math):
            label.set_parse_math(False)
            label.set_text(drawable(text))
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", metadata=about))


def save_loss_curve(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Training loss (every logged window, and smoothed) and validation loss over steps; beside them the
    kernel distances and class accuracies of quick evaluations, where there are some.
    """
    train = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    val = [(entry["step"], entry["val_loss"]) for entry in entries if "val_loss" in entry]
    quick = [entry for entry in entries if "quick_kd" in entry]
    figure = new_figure(6.4 * (2 if quick else 1), 3.8)
    axes, *beside = figure.subplots(1, 2 if quick else 1, squeeze=False)[0]
    if quick:
        _plot_quick_scores(beside[0], quick)
    if train:
        steps, losses = np.array(train).T
        axes.plot(steps, losses, color=FAINT, linewidth=0.8, alpha=0.7)
        axes.plot(steps, _smooth(losses), color=INK, label="training")
    if val:
        axes.plot(*np.array(val).T, color=SECOND, marker="o", markersize=3, label="validation")
    values = np.array([value for _, value in train + val])
    if len(values) and values.min() > 0 and values.max() / values.min() > 5:
        axes.set_yscale("log")
        readable_log(axes.yaxis)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.25, which="both")
    if train or val:
        axes.legend(frameon=False)
    save_figure(figure, path)


def _plot_quick_scores(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    """Kernel distances x 1000 over steps; on an axis of its own the accuracy of samples and real images."""
    steps = [entry["step"] for entry in entries]
    distances = [1000 * entry["quick_kd"] for entry in entries]
    lines = axes.plot(steps, distances, color=INK, marker="o", markersize=3, label="kernel distance")
    axes.set(xlabel="step", ylabel="kernel distance x 1000")
    axes.grid(alpha=0.25)
    rated = [entry for entry in entries if "quick_accuracy" in entry]
    if rated:
        right = axes.twinx()
        steps, shares = [entry["step"] for entry in rated], [entry["quick_accuracy"] for entry in rated]
        lines += right.plot(steps, shares, color=SECOND, marker="s", markersize=3, label="class accuracy")
        real = [entry["quick_real_accuracy"] for entry in rated]
        lines += right.plot(steps, real, color=SECOND, linestyle=":", marker=".", label="of real images")
        right.set(ylabel="class accuracy", ylim=(0, 1))
    axes.legend(handles=lines, frameon=False)


def _smooth(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Exponential average over about a fifteenth of the values, without the bias of its start."""
    keep = max(0.0, 1 - 15 / max(1, len(values)))
    out, average, weight = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        average, weight = keep * average + (1 - keep) * value, keep * weight + (1 - keep)
        out[i] = average / weight
    return out


def save_panels(
    pictures: Sequence[tuple[str, Pixels]],
    path: Path,
    *,
    columns: int | None = None,
    title: str = "",
    recipe: MadeWith | None = None,
) -> None:
    """Pictures side by side with a caption above each; ``recipe``: what they were made with."""
    columns = min(len(pictures), columns or len(pictures))
    rows = -(-len(pictures) // columns)
    height, width = pictures[0][1].shape[:2]
    side = 3.0 if columns > 2 else 4.2
    figure = new_figure(side * columns, rows * (side * height / width + 0.35) + (0.4 if title else 0))
    for axes in (grid := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.axis("off")
    for axes, (caption, picture) in zip(grid.flat, pictures, strict=False):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(caption, fontsize=10)
    if title:
        figure.suptitle(title, fontsize=12)
    save_figure(figure, path, recipe=recipe)


def save_trajectory(levels: Sequence[int], rows: Mapping[str, Sequence[Pixels]], path: Path) -> None:
    """A strip: one column for each level t, a row of pictures for each name."""
    figure = new_figure(1.35 * len(levels) + 0.4, 1.4 * len(rows) + 0.3)
    panels = figure.subplots(len(rows), len(levels), squeeze=False)
    for row, (name, pictures) in enumerate(rows.items()):
        for column, picture in enumerate(pictures):
            panels[row][column].imshow(picture, interpolation="nearest")
        panels[row][0].set_ylabel(name, fontsize=12)
    for column, t in enumerate(levels):
        panels[0][column].set_title(f"t = {t}", fontsize=9)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set_visible(False)
    save_figure(figure, path)

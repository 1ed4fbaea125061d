"""The figure of a kernel benchmark: time an element against size, one panel for each operation and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdiff.apps.bench.measure import Row
from latentdiff.apps.bench.workload import OPERATIONS, TITLES, least_bytes, tensor_bytes
from latentdiff.parallel.device import dtype_name
from latentdiff.viz.figures import COLORS, FAINT, INK, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE: dict[str, dict[str, Any]] = {
    "fused": {"color": INK, "linestyle": "-", "marker": "o"},
    "fused out=": {"color": INK, "linestyle": ":"},
    "fallback": {"color": FAINT, "linestyle": "-", "marker": "s"},
    "eager": {"color": COLORS[1], "linestyle": "-", "marker": "^"},
    "compile": {"color": COLORS[2], "linestyle": "-", "marker": "v"},
    "diffusers": {"color": COLORS[3], "linestyle": "-", "marker": "D"},
}
COPY = "bytes at the copy's bandwidth"


def save_kernels_figure(rows: Sequence[Row], path: Path, *, title: str) -> None:
    """Write the figure as PNG: median nanoseconds an element over bytes a tensor, bands between the
    quartiles.

    The dashed line is the time that the bytes of the operation take at the copy bandwidth of that size: the
    limit.
    """
    operations = [operation for operation in OPERATIONS if any(row.operation == operation for row in rows)]
    dtypes = list(dict.fromkeys(row.dtype for row in rows))
    figure = new_figure(3.5 * len(operations) + 0.6, 2.9 * len(dtypes) + 1.1)
    panels = figure.subplots(len(dtypes), len(operations), squeeze=False, sharex=True, sharey=True)
    for line, dtype in zip(panels, dtypes, strict=True):
        for axes, operation in zip(line, operations, strict=True):
            _panel(axes, [row for row in rows if (row.operation, row.dtype) == (operation, dtype)])
        line[0].set_ylabel(f"{dtype_name(dtype)}\nns an element")
    for axes, operation in zip(panels[0], operations, strict=True):
        axes.set_title(TITLES[operation], fontsize=11)
    for axes in panels[-1]:
        axes.set_xlabel("bytes a tensor")
    legend = {
        text: line
        for axes in panels.flat
        for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    order = [name for name in (*STYLE, COPY) if name in legend]
    figure.legend(
        [legend[name] for name in order], order, loc="outside lower center", ncols=len(order), frameon=False
    )
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for name, style in STYLE.items():
        there = [row for row in rows if name in row.timings]
        if not there:
            continue
        sizes = [tensor_bytes(row.shape, row.dtype) for row in there]
        scale = [1e9 / row.elements for row in there]
        timings = [row.timings[name] for row in there]
        low = [timing.low * each for timing, each in zip(timings, scale, strict=True)]
        high = [timing.high * each for timing, each in zip(timings, scale, strict=True)]
        medians = [row.ns_per_element(name) for row in there]
        axes.plot(sizes, medians, label=name, markersize=4, linewidth=1.6, **style)
        axes.fill_between(sizes, low, high, color=style["color"], alpha=0.13, linewidth=0)
    copied = [row for row in rows if "copy" in row.timings]
    limit = [
        least_bytes(row.operation, row.shape, row.dtype) / row.elements / row.gb_per_s("copy")
        for row in copied
    ]
    sizes = [tensor_bytes(row.shape, row.dtype) for row in copied]
    axes.plot(sizes, limit, color="black", linestyle="--", linewidth=1.0, label=COPY)
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(value: float) -> str:
    """2K, 8K, 4M."""
    return f"{value / (1 << 20):g}M" if value >= 1 << 20 else f"{value / (1 << 10):g}K"

"""Images in a table: a row for each input, a column for each stage with its name above, scores below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from latentdiff.viz.figures import new_figure
from latentdiff.viz.images import pixels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 7  # columns beside each other
DOWN = 8  # rows of images below each other, in all bands together
CELL = 1.0  # inches: 7 of them can be read where a page is 700 pixels wide
LETTERS = 8.0, 7.0  # points of titles and of notes
HEAD, FOOT, GAP = 0.13, 0.14, 0.06  # inches: a line of a title or a name, a line of notes, between cells
TITLE, NAME = 16, 15  # characters of a line above a column, and beside a row
MOST = 6  # lines above a column


@dataclass(frozen=True, eq=False)
class Column:
    """``images`` [n, C, H, W], uint8 or float in [-1, 1], ``title`` above and a note below each, or none."""

    title: str
    images: Tensor
    notes: Sequence[str] = ()


def draw_table(bands: Sequence[Sequence[Column]], *, names: Sequence[str] = (), note: str = "") -> Figure:
    """Columns beside each other; the first one stands at the left of each band, of which further ones follow
    below, as they do where a band has more than 7 columns.

    ``names``: of the rows, at their left; ``note``: below the table. Of many images the first 8 rows are
    shown, or as many as leave as few in all bands together, but two. ValueError for columns of other lengths.
    """
    first, *rest = bands[0]
    if any(len(column.images) != len(first.images) for band in bands for column in band):
        raise ValueError(f"expected as many images in each column as in the first, {len(first.images)}")
    parts = [[first, *part] for band in (rest, *bands[1:]) for part in _even(list(band), ACROSS - 1)]
    most = len(first.images)
    shown = min(most, max(2, DOWN // len(parts)))
    if shown < most:
        note = "\n".join(filter(None, [f"the first {shown} of {most} images", note]))
    ratio = first.images.shape[2] / first.images.shape[3]
    heads = [max(len(_lines(column.title, TITLE, MOST)) for column in part) for part in parts]
    feet = [max((text.count("\n") + 1 for c in part for text in c.notes), default=0) for part in parts]
    steps = [CELL * ratio + FOOT * foot + GAP for foot in feet]
    tops = [HEAD * head + GAP + shown * step for head, step in zip(heads, steps, strict=True)]
    left = 0.075 * max((len(line) for name in names[:shown] for line in _lines(name, NAME, MOST)), default=0)
    left, below = left + (GAP if left else 0), FOOT * (note.count("\n") + 1) + GAP if note else 0.0
    width = max(left + max(map(len, parts)) * (CELL + GAP), min(7.0, 0.06 * max(map(len, note.split("\n")))))
    height = sum(tops) + below
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    y = 0.0
    for part, head, step, top in zip(parts, heads, steps, tops, strict=True):
        y_first = y + HEAD * head + GAP / 2
        for k, column in enumerate(part):
            x = left + k * (CELL + GAP)
            title = "\n".join(_lines(column.title, TITLE, MOST))
            _write(axes, x + CELL / 2, y_first - GAP / 2, title, LETTERS[0], "center", "bottom")
            for row, image in enumerate(pixels_of(column.images[:shown])):
                place = y_first + row * step
                pixels = np.broadcast_to(image, (*image.shape[:2], 3))
                axes.imshow(
                    pixels, extent=(x, x + CELL, place + CELL * ratio, place), interpolation="nearest"
                )
                if row < len(column.notes):
                    at = place + CELL * ratio + 0.02
                    _write(axes, x + CELL / 2, at, column.notes[row], LETTERS[1], "center", "top")
        for row, name in enumerate(names[:shown]):
            at = y_first + row * step + CELL * ratio / 2
            lines = _lines(name, NAME, int(CELL * ratio / HEAD))
            _write(axes, left - GAP, at, "\n".join(lines), LETTERS[0], "right", "center")
        y += top
    if note:
        _write(axes, GAP, y + GAP / 2, note, LETTERS[1], "left", "top")
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_aspect("auto")
    return figure


def _write(axes: Axes, x: float, y: float, text: str, size: float, across: str, down: str) -> None:
    axes.text(x, y, text, fontsize=size, ha=across, va=down, linespacing=1.05)


def _lines(text: str, width: int, most: int) -> list[str]:
    """A text in lines that fit above a column or beside a row, at most so many."""
    found = [line for part in text.split("\n") for line in textwrap.wrap(part, width) or [""]]
    most = max(1, most)
    return found if len(found) <= most else [*found[: most - 1], found[most - 1][: width - 1] + "…"]


def _even(columns: list[Column], most: int) -> list[list[Column]]:
    """The columns in parts of at most ``most``, about equally many in each."""
    count = max(1, -(-len(columns) // most))
    size = max(1, -(-len(columns) // count))
    return [columns[k : k + size] for k in range(0, len(columns), size)] or [[]]

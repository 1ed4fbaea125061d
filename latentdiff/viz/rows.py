"""Rows of images with a label beside each row and titles above the columns, and texts folded to fit there."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from latentdiff.viz.figures import new_figure
from latentdiff.viz.images import Pixels, pixels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 0.62  # inches for an image in a row
GAP = 2  # pixels between images
ENLARGED = 4


def draw_rows(rows: Sequence[tuple[str, Tensor]], *, columns: Sequence[str] = ()) -> Figure:
    """Images in rows with a label at the left of each row; ``columns`` are written above.

    Each row's images are [n, C, H, W], uint8 or float in [-1, 1]; shorter rows end in white.
    """
    most = max(len(images) for _, images in rows)
    picture, step_y, step_x = _canvas([images for _, images in rows], most)
    side = min(CELL, 11.0 / most)
    margin = 0.1 * max(len(line) for name, _ in rows for line in name.split("\n")) + 0.25
    heads = [line for name in columns for line in name.split("\n")]
    # neighbours must not touch
    letters = max(9.0 * min(1.0, side / (0.075 * max(map(len, heads), default=1))), 5.0)
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
        for x, image in enumerate(pixels_of(images)):
            canvas[y * height + 1 : (y + 1) * height - 1, x * width + 1 : (x + 1) * width - 1] = image
    return canvas.repeat(ENLARGED, 0).repeat(ENLARGED, 1), height * ENLARGED, width * ENLARGED


def folded(text: str, width: int = 28) -> str:
    """A text in lines that fit beside a row of images."""
    return "\n".join(textwrap.wrap(text, width)) or "(no text)"

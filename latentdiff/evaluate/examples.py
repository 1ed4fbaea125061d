"""Images that the figures of an evaluation show, chosen while it measures; the scores carry them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.data.classes import representative
from latentdiff.metrics.features.pixels import as_pixels
from latentdiff.metrics.pairs import mse
from latentdiff.viz.images import class_columns

ACROSS = 12  # images in a strip
CLOSEST = 10  # samples beside their nearest training images
GRID = 100  # samples in the grid


class Strips(NamedTuple):
    """Images uint8 [n, C, H, W] side by side, each strip beside its label, below one ``title``.

    ``captions``: of the columns, below the strips.
    """

    title: str
    strips: tuple[tuple[str, Tensor], ...]
    captions: tuple[str, ...] = ()


class ImageGrid(NamedTuple):
    """Images uint8 [n, C, H, W] in ``columns`` (None: about a square)."""

    images: Tensor
    columns: int | None


def vae_examples(images: Tensor, copies: Tensor, labels: Tensor | None) -> tuple[Strips, ...]:
    """Some images of all classes and those with the largest errors, above their reconstructions.

    Images uint8, ``copies`` float in [0, 1], both [N, C, H, W].
    """
    copies = as_pixels(copies)
    worst = mse(images, copies).argsort(descending=True, stable=True)[:ACROSS]
    chosen = {"some images": representative(labels, len(images), ACROSS), "the worst reconstructions": worst}
    return tuple(
        Strips(title, (("original", images[rows]), ("reconstruction", copies[rows])))
        for title, rows in chosen.items()
    )


def sample_examples(images: Tensor, labels: Tensor | None) -> ImageGrid:
    """The first 100 samples uint8, or with ``labels`` int64 [N] of few classes a column of each class."""
    first = min(GRID, len(images))
    if labels is not None and (columns := class_columns(first, len(labels.unique()))):
        found = [torch.nonzero(labels == k)[:, 0] for k in labels.unique().tolist()]
        each = min(GRID // len(found), *map(len, found))
        if each >= first // len(found) // 2:  # else a rare class would leave a few rows
            return ImageGrid(images[torch.stack([rows[:each] for rows in found], 1).flatten()], columns)
    return ImageGrid(images[:first], None)

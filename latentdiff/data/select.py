"""Selection of images by class: the first of each, so that a row shows all classes."""

from __future__ import annotations

from torch import Tensor

from latentdiff.data import Split
from latentdiff.data.classes import order_by_class


def one_of_each_class(split: Split, n: int) -> Tensor:
    """``n`` images uint8 [n, C, H, W]: the first of each class in turn, then the second of each, and so on.

    The first images where there are no labels; fewer than ``n`` where the split has no more.
    """
    return split.images[indices_by_class(split, n)]


def indices_by_class(split: Split, n: int) -> Tensor:
    """Their places in the split, int64 [n]."""
    return order_by_class(split.labels, len(split))[:n]

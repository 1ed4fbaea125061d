"""The kernel distance: an unbiased squared maximum mean discrepancy with a cubic kernel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from latentdiff.metrics.validate import check_features

BLOCK = 1024  # rows of a block of the kernel matrix: 8 MiB whatever the sets


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """MMD^2 of features [N, D] and [M, D], k(x, y) = (x.y / D + 1)^3, over all pairs of different images.

    Unbiased, so it may be negative for equal distributions. N and M may differ. InputError for fewer than 2
    images on a side, values that are not finite, or other dimensions. Binkowski et al. 2018 (KID, without
    their subsets).
    """
    check_features(x, y, least=2)
    x, y = x.detach().double(), y.detach().double()
    n, m = len(x), len(y)
    within_x, within_y = off_diagonal_sum(x) / (n * (n - 1)), off_diagonal_sum(y) / (m * (m - 1))
    between = sum(float(cubic(p, q).sum()) for p in x.split(BLOCK) for q in y.split(BLOCK)) / (n * m)
    return within_x + within_y - 2 * between


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """The kernel matrix [N, M] of float64 features [N, D] and [M, D]."""
    matrix = torch.addmm(torch.ones((), dtype=x.dtype), x, y.T, alpha=1 / x.shape[1])
    return matrix * matrix.square()


def upper_blocks(x: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """The kernel matrix of x in blocks (rows, columns, values) on and above the diagonal, which is zeroed."""
    for row in range(0, len(x), BLOCK):
        for column in range(row, len(x), BLOCK):
            rows, columns = slice(row, row + BLOCK), slice(column, column + BLOCK)
            block = cubic(x[rows], x[columns])
            if row == column:
                block.fill_diagonal_(0)
            yield rows, columns, block


def off_diagonal_sum(x: Tensor) -> float:
    """The sum of k(x_i, x_j) over i != j."""
    return sum(float(block.sum()) * (1 if rows == columns else 2) for rows, columns, block in upper_blocks(x))

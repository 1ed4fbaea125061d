"""Nearest neighbours in Euclidean distance, block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.validate import check_features

BLOCK = 2048  # rows and columns of a block of distances: 32 MiB whatever the sets
SPARE = 4  # candidates beyond k, so that rounding in the search cannot push a true neighbour out


def nearest(queries: Tensor, base: Tensor, *, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest rows of ``base`` [M, D] to each of ``queries`` [N, D]: distances float64 [N, k] and
    indices int64 [N, k].

    In ascending order. The search multiplies matrices; the distances of what it finds are taken anew from the
    differences, so that a copy has distance 0 exactly. float32 rows are widened block by block. InputError
    for k outside 1..M, values that are not finite, or other dimensions.
    """
    check_features(queries, base, least=1)
    if not 1 <= k <= len(base):
        raise InputError(f"expected k in 1..{len(base)}, the number of images to search, found {k}")
    found = [_nearest(block.detach().double(), base.detach(), k) for block in queries.split(BLOCK)]
    return torch.cat([distance for distance, _ in found]), torch.cat([index for _, index in found])


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 [N, M] of float64 rows [N, D] and [M, D] as |x|^2 + |y|^2 - 2 x.y; what that rounds near
    zero is 0.
    """
    scale = x.square().sum(1)[:, None] + y.square().sum(1)
    squares = torch.addmm(scale, x, y.T, alpha=-2)
    return squares.masked_fill_(squares < scale.mul_(8 * torch.finfo(x.dtype).eps), 0)


def _nearest(queries: Tensor, base: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As :func:`nearest` for one block of float64 queries."""
    keep = min(k + SPARE, len(base))
    squares = queries.new_empty(len(queries), 0)
    index = torch.empty(squares.shape, dtype=torch.int64, device=queries.device)
    for start in range(0, len(base), BLOCK):
        block = base[start : start + BLOCK].double()
        near = squared_distances(queries, block).topk(min(keep, len(block)), largest=False)
        squares, index = torch.cat([squares, near.values], 1), torch.cat([index, near.indices + start], 1)
        squares, order = squares.topk(min(keep, squares.shape[1]), largest=False)
        index = index.gather(1, order)
    columns = [(queries - base[column].double()).square().sum(1).sqrt() for column in index.T]
    distance, order = torch.stack(columns, 1).sort(dim=1)
    return distance[:, :k], index.gather(1, order)[:, :k]

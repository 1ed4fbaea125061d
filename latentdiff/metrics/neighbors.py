"""Nearest neighbours, block by block; precision, recall, density and coverage: manifolds of their balls."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """|x_i - y_j|^2 [N, M] of float64 rows [N, D], [M, D] as |x|^2 + |y|^2 - 2 x.y, 0 where that rounds."""
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


@dataclass(frozen=True)
class Manifold:
    """``precision``: share of fakes within a ball of the reals; ``recall``: share of reals within a ball of
    the fakes; ``density``: balls of reals around a fake, over k (may exceed 1); ``coverage``: share of reals
    whose ball holds a fake.

    A ball reaches from an image to the ``k``-th nearest other image of its own set. ``densities`` float64
    [fakes] has the density as its mean: what a bootstrap of it needs.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    densities: Tensor = field(repr=False, compare=False)


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> Manifold:
    """Compare features real [N, D] and fake [M, D] by the balls around them.

    InputError unless both have more than k >= 1 images, are finite and of one dimension. Kynkaanniemi et al.
    2019, eq. 1-2; Naeem et al. 2020, eq. 4-5. A point on the surface of a ball is inside.
    """
    if k < 1:
        raise InputError(f"expected k of at least 1, found {k}")
    check_features(real, fake, least=k + 1)
    real, fake = real.detach().double(), fake.detach().double()
    real_radius, fake_radius = _squared_radii(real, k), _squared_radii(fake, k)
    balls = real.new_zeros(len(fake))  # of reals, around each fake
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered = torch.zeros_like(recalled)
    for row in range(0, len(real), BLOCK):
        rows = slice(row, row + BLOCK)
        for column in range(0, len(fake), BLOCK):
            columns = slice(column, column + BLOCK)
            squares = squared_distances(real[rows], fake[columns])
            inside = squares <= real_radius[rows, None]
            balls[columns] += inside.double().sum(0)
            covered[rows] |= inside.any(1)
            recalled[rows] |= (squares <= fake_radius[columns]).any(1)
    densities = balls.double() / k
    return Manifold(
        precision=_share(balls > 0),
        recall=_share(recalled),
        density=float(balls.mean()) / k,
        coverage=_share(covered),
        k=k,
        densities=densities.cpu(),
    )


def _squared_radii(x: Tensor, k: int) -> Tensor:
    """Squared distance of each row of x [N, D] to its k-th nearest other row, [N]."""
    radii = []
    for row in range(0, len(x), BLOCK):
        smallest = x.new_empty(len(x[row : row + BLOCK]), 0)
        for column in range(0, len(x), BLOCK):
            squares = squared_distances(x[row : row + BLOCK], x[column : column + BLOCK])
            if row == column:
                squares.fill_diagonal_(torch.inf)
            near = squares.topk(min(k, squares.shape[1]), largest=False).values
            smallest = torch.cat([smallest, near], 1)
            smallest = smallest.topk(min(k, smallest.shape[1]), largest=False).values
        radii.append(smallest.amax(1))
    return torch.cat(radii)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())

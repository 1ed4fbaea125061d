"""Precision, recall, density and coverage: manifolds of k-nearest-neighbour balls."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.neighbors import BLOCK, squared_distances
from latentdiff.metrics.validate import check_features


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

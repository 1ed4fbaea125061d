"""The interval of a kernel distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.metrics.half_samples import Halves, ReferenceKind, check_sets, distance_interval, random_half
from latentdiff.metrics.interval import Interval, generator_of
from latentdiff.metrics.mmd import BLOCK, cubic, upper_blocks


def bootstrap_kernel(
    x: Tensor,
    y: Tensor,
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    reference: ReferenceKind = "drawn",
) -> Interval:
    """The kernel distance of features [N, D] and [M, D] with its interval.

    ``reference`` and errors are those of :func:`bootstrap_frechet`. Of independent sets the distance is
    unbiased as it stands and ``corrected`` is the estimate; of pairs it is not, and ``corrected`` leaves out
    the mean's pairs of a row with its own partner. The kernel matrices are walked through once, for all
    resamples.
    """
    check_sets(x, y, resamples, reference)
    generator, pairs = generator_of(seed), (resamples + 1) // 2
    x, y = x.detach().double(), y.detach().double()
    p = _indicators(len(x), pairs, generator)
    q = p if reference == "paired" else None
    if reference == "drawn":
        q = _indicators(len(y), pairs, generator)
    own, other = _Within.of(x, p), _Within.of(y, q)
    partners = (x * y).sum(1).div(x.shape[1]).add(1).pow(3) if reference == "paired" else None
    between, halves_between = _between(x, y, p, q, partners)
    corrected = float(own.whole + other.whole - 2 * between)
    estimate = corrected
    if partners is not None:  # the mean between the sets, as it is usually taken, includes them
        estimate -= 2 * float(partners.mean() - between) / len(x)
    f, opposite = (a + b - 2 * c for a, b, c in zip(own.halves, other.halves, halves_between, strict=True))
    plugin = estimate + own.bias + (other.bias if q is not None else 0.0)
    halves = Halves(estimate, corrected, plugin, (f - opposite) / 2, (f + opposite) / 2 - corrected)
    return distance_interval(halves, level=level)


@dataclass(frozen=True, eq=False)
class _Within:
    """Means of k over pairs of different images of one set: of all of it, and of halves and their opposites
    [pairs].

    ``bias``: by how much the mean over all pairs, an image with itself included, is larger than that of the
    whole.
    """

    whole: Tensor
    halves: tuple[Tensor, Tensor]
    bias: float

    @classmethod
    def of(cls, x: Tensor, p: Tensor | None) -> _Within:
        """``p`` float64 [N, pairs] is 1 for the images of a half; None: the whole set stands for both
        halves.
        """
        n, half = len(x), len(x) // 2
        rows = x.new_zeros(n)  # K 1
        squares = x.new_zeros(0 if p is None else p.shape[1])  # p' K p
        for i, j, block in upper_blocks(x):
            rows[i] += block.sum(1)
            if i != j:
                rows[j] += block.sum(0)
            if p is not None:
                squares += (1 if i == j else 2) * (p[i] * (block @ p[j])).sum(0)
        total, rest = rows.sum(), n - half
        whole = total / (n * (n - 1))
        itself = (x.square().sum(1) / x.shape[1] + 1).pow(3).mean()
        bias = float((itself - whole) / n)
        if p is None:
            return cls(whole, (whole, whole), bias)
        opposite = total - 2 * (rows @ p) + squares
        return cls(whole, (squares / (half * (half - 1)), opposite / (rest * (rest - 1))), bias)


def _between(
    x: Tensor, y: Tensor, p: Tensor, q: Tensor | None, partners: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Means of k over pairs of images of two sets: of all, and of the halves p of x with q of y (None: all of
    y), and opposites.

    ``partners`` [N], k of each row of x with its own of y, are left out of the means.
    """
    rows, columns, products = (
        x.new_zeros(len(x)),
        x.new_zeros(len(y)),
        p.new_zeros(p.shape[1]),
    )  # C 1, C' 1, p' C q
    for i in range(0, len(x), BLOCK):
        for j in range(0, len(y), BLOCK):
            block = cubic(x[i : i + BLOCK], y[j : j + BLOCK])
            rows[i : i + BLOCK] += block.sum(1)
            columns[j : j + BLOCK] += block.sum(0)
            if q is not None:
                products += (p[i : i + BLOCK] * (block @ q[j : j + BLOCK])).sum(0)
    n, m, half_n, half_m, own = len(x), len(y), len(x) // 2, len(y) // 2, 0
    if partners is not None:
        rows, columns, products, own = rows - partners, columns - partners, products - partners @ p, 1
    total, along = rows.sum(), rows @ p
    whole = total / (n * (m - own))
    if q is None:
        return whole, (along / (half_n * m), (total - along) / ((n - half_n) * m))
    opposite = total - along - columns @ q + products
    return whole, (products / (half_n * (half_m - own)), opposite / ((n - half_n) * (m - half_m - own)))


def _indicators(n: int, pairs: int, generator: torch.Generator) -> Tensor:
    """A random half in each column: 1 where an image is in it, float64 [n, pairs]."""
    chosen = torch.zeros(n, pairs, dtype=torch.float64)
    for pair in range(pairs):
        chosen[random_half(n, generator), pair] = 1
    return chosen

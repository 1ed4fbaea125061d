"""The interval of a Frechet distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.metrics.frechet import Moments, frechet
from latentdiff.metrics.half_samples import Halves, ReferenceKind, check_sets, distance_interval, random_half
from latentdiff.metrics.interval import Interval, generator_of

LARGE_DIMENSION, LARGE_RESAMPLES = 512, 40  # a distance costs D^3: from that D on there are at most that many


def bootstrap_frechet(
    x: Tensor,
    y: Tensor,
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    reference: ReferenceKind = "drawn",
) -> Interval:
    """The Frechet distance of features [N, D] and [M, D] with its interval.

    ``corrected`` lacks the bias of the finite sets: it is 2 f - (f at half the size), and may fall below 0
    where the distributions are equal, as may both ends. ``reference``: y is a sample of its own (drawn), the
    whole population (fixed), or was made of x row by row, as reconstructions are (paired). From D = 512 on at
    most 40 resamples are drawn, with Student's quantiles (``resamples`` of the result says how many). Take N
    well above D: below about 4 D the bias is no longer proportional to 1 / N. InputError for fewer than 4
    images a side or 20 resamples, values that are not finite, other dimensions, or pairs that are none.
    Theory and measured coverage: the head of ``half_samples.py``.
    """
    check_sets(x, y, resamples, reference)
    if x.shape[1] >= LARGE_DIMENSION:
        resamples = min(resamples, LARGE_RESAMPLES)
    generator = generator_of(seed)
    first, second = _Sums.of(x.detach().double()), _Sums.of(y.detach().double())
    whole = second.moments
    estimate = frechet(first.moments, whole)
    odd, even = [], []
    for _ in range((resamples + 1) // 2):
        half = random_half(len(x), generator)
        a, opposite_a = first.halves(half)
        if reference == "fixed":
            b = opposite_b = whole
        else:
            b, opposite_b = second.halves(half if reference == "paired" else random_half(len(y), generator))
        f, opposite = frechet(a, b), frechet(opposite_a, opposite_b)
        odd.append((f - opposite) / 2)
        even.append((f + opposite) / 2 - estimate)
    odds, evens = torch.tensor(odd, dtype=torch.float64), torch.tensor(even, dtype=torch.float64)
    halves = Halves(estimate, estimate - float(evens.mean()), estimate, odds, evens)
    return distance_interval(halves, level=level)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Centred features [N, D] with their sum of products [D, D]; a half's opposite then costs a
    subtraction.
    """

    mean: Tensor
    centred: Tensor
    products: Tensor

    @classmethod
    def of(cls, features: Tensor) -> _Sums:
        mean = features.mean(0)
        centred = features - mean
        return cls(mean, centred, centred.T @ centred)

    @property
    def moments(self) -> Moments:
        n = len(self.centred)
        return Moments(n, self.mean, self.products / (n - 1))

    def halves(self, chosen: Tensor) -> tuple[Moments, Moments]:
        """The moments of the rows ``chosen`` and of the others."""
        half = self.centred[chosen]
        total, products = half.sum(0), half.T @ half
        rest = len(self.centred) - len(half)
        return self._moments(len(half), total, products), self._moments(
            rest, -total, self.products - products
        )

    def _moments(self, n: int, total: Tensor, products: Tensor) -> Moments:
        """Of n images with this sum and these products, both about the mean of all."""
        return Moments(n, self.mean + total / n, (products - torch.outer(total, total) / n) / (n - 1))

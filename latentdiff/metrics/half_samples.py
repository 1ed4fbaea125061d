"""Confidence intervals of squared distances between two distributions, from antithetic half-samples.

A distance f like the Frechet or the kernel distance moves with the error e of the sampled distributions as
f = theta + L(e) + Q(e): a linear part, and a quadratic one that is all there is where the distributions are
equal and that makes f too large on average. The classical bootstrap fails for it twice over: its resamples
carry e again, so that they lie around f + E Q; and their linear part is 2 Q(e, .) too large, which near theta
= 0 triples the variance.

Here a resample is a random half of each set, and its antithesis the other half: e* and -e*, with the variance
of a bootstrap resample (McCarthy 1969, "Pseudo-replication: half samples"; Efron 1982, ch. 8), without the
ties that lower the rank of a resampled covariance. Then

    odd  = (f(e*) - f(-e*)) / 2      ~ L(e*) + 2 Q(e, e*),  variance  V_L + 2 V_Q
    even = (f(e*) + f(-e*)) / 2 - f  ~ Q(e*),               mean the bias B, variance V_Q

so that B and V_Q are free of e. V_L is proportional to theta near 0: with slope = Var(odd) / plug-in value
(both of them measured at e, whose shares cancel) the interval holds each theta that the unbiased estimate T =
f - B does not reject,

    (T - theta)^2 <= q^2 V_Q + z^2 slope max(theta, 0),

which is Wilson's idea for proportions: the variance is taken at the theta in question, not at the estimate. q
is z corrected for the skewness of Q (Cornish and Fisher 1938). Neither end is cut off at 0: an interval all
below it says that the sets are closer than independent draws of one distribution would be, as copies are.

``reference`` says what y is: "drawn", a sample of its own; "fixed", the population itself; "paired", row by
row what was made of x (reconstructions against their originals), whose halves are then the same rows, so that
errors in common cancel.

Measured on Gaussians of known distance (tests/metrics/test_coverage.py: D = 2, 16, 64, n = 300 to 5000, equal
to far apart, 200 repeats each): intervals of 95% cover the Frechet distance in 93 to 97.5% and the kernel
distance in 92 to 97.5%; 95.3% with 40 resamples (1000 repeats). Exceptions: 98% where theta, bias and noise
are alike (too wide by a sixth); 87% for the kernel distance of 300 draws far apart in 2 dimensions, whose
variance is a moment of sixth order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.frechet import Moments, frechet
from latentdiff.metrics.interval import (
    Interval,
    check_resamples,
    generator_of,
    normal_quantile,
    student_quantile,
)
from latentdiff.metrics.mmd import BLOCK, cubic, upper_blocks
from latentdiff.metrics.validate import check_features

ReferenceKind = Literal["drawn", "fixed", "paired"]
LEAST_PAIRS = 10
PAIRS_FOR_SKEWNESS = 50  # its own standard error, sqrt(6 / pairs), must be small
LARGE_DIMENSION, LARGE_RESAMPLES = 512, 40  # a distance costs D^3: from that D on there are at most that many


def frechet_interval(
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
    generator = _checked(x, y, resamples, seed, reference)
    if x.shape[1] >= LARGE_DIMENSION:
        resamples = min(resamples, LARGE_RESAMPLES)
    first, second = _Sums.of(x.detach().double()), _Sums.of(y.detach().double())
    whole = second.moments
    estimate = frechet(first.moments, whole)
    found = []
    for _ in range((resamples + 1) // 2):
        half = random_half(len(x), generator)
        others = (whole, whole)
        if reference != "fixed":
            others = second.halves(half if reference == "paired" else random_half(len(y), generator))
        found.append([frechet(a, b) for a, b in zip(first.halves(half), others, strict=True)])
    f, opposite = torch.tensor(found, dtype=torch.float64).unbind(1)
    even = (f + opposite) / 2 - estimate
    halves = Halves(estimate, estimate - float(even.mean()), estimate, (f - opposite) / 2, even)
    return distance_interval(halves, level=level)


def kernel_interval(
    x: Tensor,
    y: Tensor,
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    reference: ReferenceKind = "drawn",
) -> Interval:
    """The kernel distance of features [N, D] and [M, D] with its interval.

    ``reference`` and errors are those of :func:`frechet_interval`. Of independent sets the distance is
    unbiased as it stands and ``corrected`` is the estimate; of pairs it is not, and ``corrected`` leaves out
    the mean's pairs of a row with its own partner. The kernel matrices are passed once for all resamples.
    """
    generator, pairs = _checked(x, y, resamples, seed, reference), (resamples + 1) // 2
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
class Halves:
    """``estimate`` f, ``corrected`` T, ``plugin`` (f with its bias, positive); ``odd``, ``even`` [pairs]."""

    estimate: float
    corrected: float
    plugin: float
    odd: Tensor
    even: Tensor


def distance_interval(halves: Halves, *, level: float) -> Interval:
    """The interval of the true distance, as the head of this file derives it."""
    pairs = len(halves.odd)
    z = normal_quantile(level)
    t = student_quantile(level, pairs - 1)
    centred = halves.even - halves.even.mean()
    spread = float((centred.square().sum() / (pairs - 1)).sqrt())  # of Q, sqrt(V_Q)
    skewness = float((centred / spread).pow(3).mean()) if spread > 0 and pairs >= PAIRS_FOR_SKEWNESS else 0.0
    tilt = skewness * (z * z - 1) / 6
    noise = spread * math.sqrt(1 + 1 / pairs)  # the bias is a mean of as many
    slope = t * t * float(halves.odd.square().mean()) / halves.plugin if halves.plugin > 0 else 0.0
    above, below = max(t + tilt, 0.0) * noise, max(t - tilt, 0.0) * noise
    low = _end(halves.corrected, -above, slope)
    high = _end(halves.corrected, below, slope)
    return Interval(halves.estimate, halves.corrected, low, high, level, 2 * pairs)


def _end(centre: float, reach: float, slope: float) -> float:
    """The theta on the side of ``reach`` with (centre - theta)^2 = reach^2 + slope max(theta, 0)."""
    if centre + reach <= 0:
        return centre + reach
    half = centre + slope / 2
    return half + math.copysign(math.sqrt(max(0.0, half * half - centre * centre + reach * reach)), reach)


def random_half(n: int, generator: torch.Generator) -> Tensor:
    """n // 2 of the indices 0..n-1, int64."""
    return torch.randperm(n, generator=generator)[: n // 2]


def _checked(x: Tensor, y: Tensor, resamples: int, seed: int, reference: ReferenceKind) -> torch.Generator:
    """The generator of the halves; InputError for sets that cannot be halved or for too few resamples."""
    check_features(x, y, least=4)
    check_resamples(resamples, least=2 * LEAST_PAIRS)
    if reference == "paired" and len(x) != len(y):
        raise InputError(f"expected pairs, as many features in both sets, found {len(x)} and {len(y)}")
    return generator_of(seed)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Centred features [N, D] with their sum of products [D, D]: a half's opposite costs a subtraction."""

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
        rest = self._moments(len(self.centred) - len(half), -total, self.products - products)
        return self._moments(len(half), total, products), rest

    def _moments(self, n: int, total: Tensor, products: Tensor) -> Moments:
        """Of n images with this sum and these products, both about the mean of all."""
        return Moments(n, self.mean + total / n, (products - torch.outer(total, total) / n) / (n - 1))


@dataclass(frozen=True, eq=False)
class _Within:
    """Means of k over pairs of different images of one set: the whole, and halves and opposites [pairs].

    ``bias``: by how much the mean over all pairs, an image with itself included, exceeds that of the whole.
    """

    whole: Tensor
    halves: tuple[Tensor, Tensor]
    bias: float

    @classmethod
    def of(cls, x: Tensor, p: Tensor | None) -> _Within:
        """``p`` float64 [N, pairs]: 1 for the images of a half; None: both halves are the whole set."""
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
    """Means of k over images of two sets: the whole, the halves p of x with q of y (None: all y), opposites.

    ``partners`` [N], k of each row of x with its own of y, are left out of the means.
    """
    rows, columns, products = (x.new_zeros(n) for n in (len(x), len(y), p.shape[1]))  # C 1, C' 1, p' C q
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

"""The confidence interval of a measured value: of means, of shares of images, and what all kinds need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.errors import InputError

LEAST_RESAMPLES = 20
VALUES_IN_FLIGHT = 2**22


@dataclass(frozen=True)
class Interval:
    """``estimate``: the figure as it is usually computed; ``corrected``: without the bias that the finite
    sets give it; ``low`` to ``high``: where the true value lies with the probability ``level``, by that many
    ``resamples`` (0: closed form).
    """

    estimate: float
    corrected: float
    low: float
    high: float
    level: float
    resamples: int


def normal_quantile(level: float) -> float:
    """z with P(|Z| <= z) = ``level``. InputError for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise InputError(f"expected a level between 0 and 1, found {level:g}")
    return float(torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)))


def student_quantile(level: float, freedom: int) -> float:
    """t with P(|T| <= t) = ``level`` for 1 degree of freedom or more, to 10 digits.

    Bisects the finite series of P in theta = arctan(t / sqrt(freedom)); Abramowitz and Stegun 1964, 26.7.3-4.
    """
    odd, low, high = freedom % 2, 0.0, math.pi / 2
    j = torch.arange(1, max(1, freedom // 2), dtype=torch.float64)
    factors = torch.cat([j.new_ones(1), (2 * j - 1 + odd) / (2 * j + odd)])[: freedom // 2]
    weights, powers = factors.cumprod(0), 2 * torch.arange(len(factors), dtype=torch.float64) + odd
    for _ in range(60):
        theta = (low + high) / 2
        inside = math.sin(theta) * float((weights * math.cos(theta) ** powers).sum())
        if odd:
            inside = (theta + inside) * 2 / math.pi
        low, high = (theta, high) if inside < level else (low, theta)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def check_resamples(resamples: int, *, least: int) -> None:
    """InputError for too few resamples to make an interval of."""
    if resamples < least:
        raise InputError(f"expected at least {least} resamples, found {resamples}")


def generator_of(seed: int) -> torch.Generator:
    """The generator of a resampling, its own; InputError for a seed outside 0..2^63-1."""
    if not 0 <= seed < 2**63:
        raise InputError(f"expected a seed in 0..2^63-1, found {seed}")
    return torch.Generator().manual_seed(seed)


def bootstrap_mean(values: Tensor, *, resamples: int = 2000, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of per-image values [N] with its bias-corrected and accelerated (BCa) interval. Efron 1987,
    eq. 2.3, 6.6.

    Infinite values (the PSNR of an identical pair) make the mean infinite, and both ends with it. One value
    alone says nothing of the spread: the interval is everything. For shares of hits see
    ``proportion_interval``. InputError for no values, NaN, infinities of both signs, or fewer than 20
    resamples.
    """
    check_resamples(resamples, least=LEAST_RESAMPLES)
    z = normal_quantile(level)
    generator = generator_of(seed)
    if values.ndim != 1 or not len(values):
        raise InputError(f"expected values [images], at least one, found shape {list(values.shape)}")
    x = values.detach().double()
    mean = float(x.mean())
    if math.isnan(mean):
        raise InputError(
            f"expected a mean that is a number, found NaN among {len(x)} values, or infinities of both signs"
        )
    if math.isinf(mean):
        return Interval(mean, mean, mean, mean, level, resamples)
    if len(x) == 1:
        return Interval(mean, mean, -math.inf, math.inf, level, 0)
    draws = _resampled_means(x, resamples, generator)
    low, high = (float(draws.quantile(_accelerated(x, draws, end))) for end in (-z, z))
    return Interval(mean, mean, low, high, level, resamples)


def bootstrap_ratio(
    values: Tensor, base: Tensor, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of ``values`` [N] over that of ``base`` [M], independent of each other, with the percentile
    interval of resampled means. Efron and Tibshirani 1993, 13.3.

    InputError for no values, means of ``base`` that are not above 0, or fewer than 20 resamples.
    """
    check_resamples(resamples, least=LEAST_RESAMPLES)
    if values.ndim != 1 or base.ndim != 1 or not (len(values) and len(base)):
        found = f"{list(values.shape)} and {list(base.shape)}"
        raise InputError(f"expected values [images], at least one on each side, found shapes {found}")
    x, y = values.detach().double(), base.detach().double()
    if not float(y.mean()) > 0:
        raise InputError(f"expected a mean above 0 to divide by, found {float(y.mean()):g}")
    generator = generator_of(seed)
    draws = _resampled_means(x, resamples, generator) / _resampled_means(y, resamples, generator)
    low, high = (float(draws.quantile((1 + side * level) / 2)) for side in (-1, 1))
    ratio = float(x.mean() / y.mean())
    return Interval(ratio, ratio, low, high, level, resamples)


def proportion_interval(hits: Tensor, *, level: float = 0.95) -> Interval:
    """The share of true among ``hits`` bool [N] (or 0 and 1), with Wilson's interval.

    Resampling cannot do this near 0 and 1: of 50 hits out of 50 every resample says 1. Wilson 1927; Brown,
    Cai and DasGupta 2001. InputError for no hits at all or values other than 0 and 1.
    """
    z = normal_quantile(level)
    if hits.ndim != 1 or not len(hits) or not ((hits == 0) | (hits == 1)).all():
        raise InputError(
            f"expected hits [N] of 0 and 1, at least one, found shape {list(hits.shape)} of {hits.dtype}"
        )
    n, p = len(hits), float(hits.double().mean())
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (min(max(end, 0.0), 1.0) for end in (centre - reach, centre + reach))
    # at 0 and 1 the ends are p but for their rounding
    return Interval(p, p, min(low, p), max(high, p), level, 0)


def ratio_interval(hits: Tensor, base: Tensor, *, level: float = 0.95) -> Interval:
    """The share of true among ``hits`` bool [N] over that among ``base`` bool [M], independent of each other.

    The interval is made of Wilson's of both shares (MOVER; Donner and Zou 2012, eq. 9). InputError where
    nothing in ``base`` is true.
    """
    a, b = proportion_interval(hits, level=level), proportion_interval(base, level=level)
    if b.estimate == 0:
        raise InputError(f"expected a share above 0 to divide by, found 0 of {len(base)}")
    product, ratio = a.estimate * b.estimate, a.estimate / b.estimate
    least, above = a.low * (2 * a.estimate - a.low), b.high * (2 * b.estimate - b.high)
    most, below = a.high * (2 * a.estimate - a.high), b.low * (2 * b.estimate - b.low)
    low = least / (product + math.sqrt(max(0.0, product**2 - least * above))) if least > 0 else 0.0
    high = (product + math.sqrt(max(0.0, product**2 - most * below))) / below
    return Interval(ratio, ratio, min(low, ratio), max(high, ratio), level, 0)


def _resampled_means(x: Tensor, resamples: int, generator: torch.Generator) -> Tensor:
    """Means of ``resamples`` draws of N values with replacement, [resamples]."""
    rows = max(1, VALUES_IN_FLIGHT // len(x))
    means = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(x))
        means.append(x[torch.randint(len(x), shape, generator=generator)].mean(1))
    return torch.cat(means)


def _accelerated(x: Tensor, draws: Tensor, z: float) -> float:
    """The place in 0..1 among the draws of the end ``z`` of the interval (Efron 1987, eq. 2.3, 6.6)."""
    deviation = x - x.mean()
    power = float(deviation.square().sum())
    acceleration = float(deviation.pow(3).sum()) / (6 * power**1.5) if power > 0 else 0.0
    below = float(((draws < x.mean()).double() + 0.5 * (draws == x.mean())).mean())
    shift = float(torch.special.ndtri(torch.tensor(min(max(below, 1e-3), 1 - 1e-3), dtype=torch.float64)))
    bent = (shift + z) / max(1 - acceleration * (shift + z), 1e-3)
    return float(torch.special.ndtr(torch.tensor(shift + bent, dtype=torch.float64)))

"""The intervals of means of per-image values, and of shares of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.interval import Interval, check_resamples, generator_of, normal_quantile

LEAST_RESAMPLES = 20
VALUES_IN_FLIGHT = 2**22


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
    return Interval(
        p, p, min(low, p), max(high, p), level, 0
    )  # at 0 and 1 the ends are p but for their rounding


def _resampled_means(x: Tensor, resamples: int, generator: torch.Generator) -> Tensor:
    """Means of ``resamples`` draws of N values with replacement, [resamples]."""
    rows = max(1, VALUES_IN_FLIGHT // len(x))
    means = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(x))
        means.append(x[torch.randint(len(x), shape, generator=generator)].mean(1))
    return torch.cat(means)


def _accelerated(x: Tensor, draws: Tensor, z: float) -> float:
    """The place in 0..1 among the draws at which the end ``z`` of the interval lies (Efron 1987, eq.

    2.3, 6.6).
    """
    deviation = x - x.mean()
    power = float(deviation.square().sum())
    acceleration = float(deviation.pow(3).sum()) / (6 * power**1.5) if power > 0 else 0.0
    below = float(((draws < x.mean()).double() + 0.5 * (draws == x.mean())).mean())
    shift = float(torch.special.ndtri(torch.tensor(min(max(below, 1e-3), 1 - 1e-3), dtype=torch.float64)))
    bent = (shift + z) / max(1 - acceleration * (shift + z), 1e-3)
    return float(torch.special.ndtr(torch.tensor(shift + bent, dtype=torch.float64)))

"""The confidence interval of a measured value, with the quantiles and checks of all its kinds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from latentdiff.errors import InputError


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

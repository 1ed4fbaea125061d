"""The confidence interval of a measured figure, and what all kinds of it need."""

from __future__ import annotations

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
    """t with P(|T| <= t) = ``level``: within 0.1% at 95% from 9 degrees of freedom on (Fisher and Cornish
    1960).
    """
    z = normal_quantile(level)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def check_resamples(resamples: int, *, least: int) -> None:
    """InputError for too few resamples to make an interval of."""
    if resamples < least:
        raise InputError(f"expected at least {least} resamples, found {resamples}")


def generator_of(seed: int) -> torch.Generator:
    """The generator of a resampling, its own; InputError for a seed outside 0..2^63-1."""
    if not 0 <= seed < 2**63:
        raise InputError(f"expected a seed in 0..2^63-1, found {seed}")
    return torch.Generator().manual_seed(seed)

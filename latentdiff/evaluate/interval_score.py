"""A measured number with its interval, and how intervals are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentdiff.metrics.frechet import frechet, moments
from latentdiff.metrics.half_samples import Halves, distance_interval, random_half
from latentdiff.metrics.half_samples_frechet import LARGE_DIMENSION, LARGE_RESAMPLES, bootstrap_frechet
from latentdiff.metrics.half_samples_kernel import bootstrap_kernel
from latentdiff.metrics.interval import Interval
from latentdiff.metrics.mean_interval import bootstrap_mean, proportion_interval
from latentdiff.metrics.mmd import kernel_distance

# images a side for each dimension of the features that an interval of a Frechet distance needs
# (docs/evaluation.md)
ROOM = 4.5


@dataclass(frozen=True)
class Resampling:
    """How many bootstrap resamples make the intervals (20 or more; 0: none), their level and the seed of the
    resampling.
    """

    count: int = 200
    level: float = 0.95
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """The arguments of the bootstraps of :mod:`latentdiff.metrics`."""
        return {"resamples": self.count, "level": self.level, "seed": self.seed}

    as_dict = options


@dataclass(frozen=True)
class Score:
    """A figure as it was measured; ``low``, ``high`` and ``corrected`` (for bias) are None without resampling
    and for Frechet distances of too few images.

    ``resamples``: how many made the interval (0: it has a closed form).
    """

    value: float
    low: float | None = None
    high: float | None = None
    corrected: float | None = None
    resamples: int | None = None

    @classmethod
    def of(cls, interval: Interval) -> Score:
        """The score of a bootstrap interval."""
        return cls(interval.estimate, interval.low, interval.high, interval.corrected, interval.resamples)

    def times(self, factor: float) -> Score:
        """The figure in other units."""
        low, high, corrected = (
            None if v is None else factor * v for v in (self.low, self.high, self.corrected)
        )
        return Score(factor * self.value, low, high, corrected, self.resamples)

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON: what is infinite (the PSNR of an identical pair) is None, since JSON knows no
        infinity.
        """
        values = {"value": self.value, "low": self.low, "high": self.high, "corrected": self.corrected}
        known = {
            key: value if value is None or math.isfinite(value) else None for key, value in values.items()
        }
        return {**known, "resamples": self.resamples}


def mean_score(values: Tensor, resampling: Resampling) -> Score:
    """The mean of per-image values float64 [N]."""
    if not resampling.count:
        return Score(float(values.double().mean()))
    return Score.of(bootstrap_mean(values, **resampling.options()))


def share_score(hits: Tensor, resampling: Resampling) -> Score:
    """The share of images for which ``hits`` bool [N] is true."""
    if not resampling.count:
        return Score(float(hits.double().mean()))
    return Score.of(proportion_interval(hits, level=resampling.level))


def proportion_score(share: float, n: int, resampling: Resampling) -> Score:
    """A share of ``n`` images that was counted elsewhere."""
    return share_score(torch.arange(n) < round(share * n), resampling)


def cramped(n: int, m: int, dim: int) -> bool:
    """Whether so few images have ``dim`` features each that the bias of a Frechet distance can be neither
    measured nor removed.
    """
    return min(n, m) < ROOM * dim


def frechet_score(x: Tensor, y: Tensor, resampling: Resampling) -> Score:
    """The Frechet distance of features float64 [N, D] and [M, D], with an interval where that many images
    allow one.
    """
    if not resampling.count or cramped(len(x), len(y), x.shape[1]):
        return Score(frechet(moments(x), moments(y)))
    return Score.of(bootstrap_frechet(x, y, **resampling.options()))


def kernel_score(x: Tensor, y: Tensor, resampling: Resampling) -> Score:
    """The kernel distance of features float64 [N, D] and [M, D]."""
    if not resampling.count:
        return Score(kernel_distance(x, y))
    return Score.of(bootstrap_kernel(x, y, **resampling.options()))


def paired_frechet_score(x: Tensor, y: Tensor, resampling: Resampling) -> Score:
    """The Frechet distance of features float64 [N, D] of images and [N, D] of their own copies.

    Pairs are resampled as pairs: what chance put into the images it put into the copies too, so that the
    distance has neither the bias nor the spread of two independent sets.
    """
    if not resampling.count or cramped(len(x), len(y), x.shape[1]):
        return Score(frechet(moments(x), moments(y)))
    generator = torch.Generator().manual_seed(resampling.seed)
    count = min(resampling.count, LARGE_RESAMPLES) if x.shape[1] >= LARGE_DIMENSION else resampling.count
    estimate = frechet(moments(x), moments(y))
    odd, even = [], []
    for _ in range((count + 1) // 2):
        mine = torch.zeros(len(x), dtype=torch.bool)
        mine[random_half(len(x), generator)] = True
        f, opposite = (frechet(moments(x[half]), moments(y[half])) for half in (mine, ~mine))
        odd.append((f - opposite) / 2)
        even.append((f + opposite) / 2 - estimate)
    odds, evens = torch.tensor(odd, dtype=torch.float64), torch.tensor(even, dtype=torch.float64)
    halves = Halves(estimate, estimate - float(evens.mean()), estimate, odds, evens)
    return Score.of(distance_interval(halves, level=resampling.level))

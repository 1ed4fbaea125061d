"""Training losses: weights over noise levels, and the variational bound that trains a learned variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from latentdiff.config.diffusion import Prediction
from latentdiff.diffusion.prediction import to_x0
from latentdiff.diffusion.schedule import Schedule

Weighting = Literal["uniform", "min-snr"]
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023


def level_weights(
    schedule: Schedule, prediction: Prediction, weighting: Weighting, *, sigma_data: float = 0.0
) -> Tensor:
    """The weight of the squared error at each level, float64 [T + 1] (level 0 is never trained: weight 0).

    uniform weighs the error of the network's output, except that a score is weighted by sigma^2 (Song et al.
    2021, eq. 7), which makes it the error of eps; of a preconditioned x_0 that is the weight 1 / c_out^2 of
    the x_0 error, as in EDM. min-snr (Hang et al. 2023, eq. 6) caps the weight of the x_0 error, which is q
    times the output's, at gamma = 5.
    """
    alpha, sigma = schedule.alpha[1:], schedule.sigma[1:]
    if weighting == "min-snr":
        _, q = to_x0(prediction, alpha, sigma, sigma_data=sigma_data)
        weights = (alpha / sigma).square().clamp_max(MIN_SNR_GAMMA) * q.square()
    else:
        weights = sigma.square() if prediction == "score" else torch.ones_like(sigma)
    return torch.cat([weights.new_zeros(1), weights])


@dataclass(frozen=True, eq=False)
class VariationalBound:
    """L_vlb of Nichol & Dhariwal 2021 (eq. 4-6) for a learned variance range; trains the range alone.

    ``bins``: pixel models measure level 1 by the likelihood of 8-bit pixels (Ho et al. 2020, eq. 13), latents
    by a density. The pixels lie in [shift - scale, shift + scale].
    """

    schedule: Schedule
    bins: bool
    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, x0: Tensor, x_t: Tensor, x0_hat: Tensor, variance_range: Tensor, t: Tensor) -> Tensor:
        """The bound's term at the levels ``t`` int64 [B] in bits per dimension, [B].

        ``x0_hat`` gets no gradient.

        Shapes: x0, x_t, x0_hat and variance_range (the raw range output) are [B, *shape].
        """
        shape = (-1, *[1] * (x0.ndim - 1))
        tables = [table.to(x0.dtype).to(t.device)[t].view(shape) for table in self._tables]
        k, m, log_small, log_large = tables
        x0_hat = x0_hat.detach()
        mean, mean_hat = k * x_t + m * x0, k * x_t + m * x0_hat
        fraction = (variance_range + 1) / 2
        log_variance = fraction * log_large + (1 - fraction) * log_small
        divergence = 0.5 * (
            log_variance
            - log_small
            + (log_small - log_variance).exp()
            - 1
            + (mean - mean_hat).square() * (-log_variance).exp()
        )
        likelihood = self._pixels if self.bins else _density
        terms = torch.where((t == 1).view(shape), -likelihood(x0, mean_hat, log_variance), divergence)
        return terms.flatten(1).mean(1) / math.log(2)

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """k, m, log small and log large variance of the single moves t -> t - 1, float64 [T + 1].

        The small one is 0 at level 1; its logarithm is that of level 2 (improved-diffusion's clipping).
        """
        alpha, sigma = self.schedule.alpha, self.schedule.sigma
        beta = self.schedule.forward_variance(slice(1, None), slice(0, -1))
        small = beta * (sigma[:-1] / sigma[1:]).square()
        k = (sigma[:-1].square() - small).clamp_min(0).sqrt() / sigma[1:]
        m = alpha[:-1] - k * alpha[1:]
        large = self.schedule.reverse_variance(slice(1, None), slice(0, -1))
        clipped = torch.cat([small[1:2] if len(small) > 1 else beta, small[1:]])
        front = beta.new_zeros(1)  # level 0 has no move; it is never indexed
        return (
            torch.cat([front, k]),
            torch.cat([front, m]),
            torch.cat([front, clipped.log()]),
            torch.cat([front, large.log()]),
        )

    def _pixels(self, x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        """log probability of 8-bit pixels: a Gaussian in bins of width 2 scale / 255, open at both ends."""
        x0, mean = x0 - self.shift, mean - self.shift
        precision, half, edge = (-0.5 * log_variance).exp(), self.scale / 255, 0.999 * self.scale
        upper = torch.special.ndtr((x0 - mean + half) * precision)
        lower = torch.special.ndtr((x0 - mean - half) * precision)
        inside = torch.where(x0 < -edge, upper, torch.where(x0 > edge, 1 - lower, upper - lower))
        return inside.clamp_min(1e-12).log()


def _density(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log density of x0 under a Gaussian."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (x0 - mean).square() * (-log_variance).exp())

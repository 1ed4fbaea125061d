"""Denoisers: functions of (x_t, t) that estimate x_0, each made of a network, a schedule and a prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from latentdiff.config.diffusion import Prediction
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.guidance import Condition, guided, rescaled
from latentdiff.diffusion.prediction import to_x0
from latentdiff.diffusion.schedule import Schedule
from latentdiff.ops import constants

Network = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""(x [B, *shape], timesteps [B], conditioning) -> out [B, *shape], twice the channels for a learned variance.

The conditioning is labels int64 [B], encoded prompts [B, L, D], or None for an unconditional estimate.
"""


Denoiser = Callable[[Tensor, int], Estimate]
"""(x_t [B, *shape], level t in 1..T) -> the estimate of x_0 there."""


Level = TypeVar("Level", int, Tensor)


def timestep(t: Level) -> Level:
    """The timestep 0..T-1 that the network gets for level t in 1..T; the only place of this shift."""
    return t - 1


def computing_in(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Autocast to ``dtype``; it casts weights once between the outermost entry and exit."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def in_dtype(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """The network computing in ``dtype`` (autocast), with float32 outputs."""

    def call(x: Tensor, t: Tensor, labels: Tensor | None, **more: Tensor) -> Tensor:
        with computing_in(dtype, device):
            return network(x, t, labels, **more).float()

    return call


def denoiser(
    network: Network,
    schedule: Schedule,
    *,
    prediction: Prediction,
    sigma_data: float = 0.0,
    condition: Condition | None = None,
    clip: float | None = None,
    learned_variance: bool = False,
) -> Denoiser:
    """A Denoiser from a network: one call of the network for each level, batched over the guided pair.

    ``sigma_data`` is that of :mod:`latentdiff.diffusion.prediction`. Without a condition the network gets no
    labels (a conditional one then uses its null class).
    """

    def estimate(x: Tensor, t: int, outs: Tensor) -> Estimate:
        p, q = to_x0(prediction, *schedule.at(t), sigma_data=sigma_data)
        variance_range = None
        if learned_variance:
            outs, variance_range = outs.chunk(2, 1)
        return Estimate(
            x,
            t,
            p,
            (outs.to(x.dtype),),
            (q,),
            clip,
            None if variance_range is None else variance_range.to(x.dtype),
        )

    def time(x: Tensor, t: int) -> Tensor:
        # a copy: networks may scale their times in place, and constants are shared
        return constants.constant_fill(timestep(t), (len(x),), dtype=torch.float32, device=x.device).clone()

    def denoise(x: Tensor, t: int) -> Estimate:
        w = 0.0 if condition is None else condition.scale(t, schedule.T)
        if condition is None:
            return estimate(x, t, network(x, time(x, t), None))
        if w in (0, 1):
            return estimate(
                x, t, network(x, time(x, t), condition.labels if w else condition.unconditional())
            )
        pair = torch.cat([x, x])
        both = network(pair, time(pair, t), condition.cond_uncond())
        cond, uncond = (estimate(x, t, half) for half in both.chunk(2))
        mixed = guided(cond, uncond, w)
        return rescaled(cond, mixed, condition.rescale) if condition.rescale else mixed

    return denoise

"""Denoisers: functions of (x_t, t) that estimate x_0, each made of a network, a schedule and a prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.config.diffusion import Prediction
from latentdiff.diffusion.prediction import to_x0
from latentdiff.diffusion.schedule import Schedule
from latentdiff.ops import constants

Network = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""(x [B, *shape], timesteps [B], conditioning) -> out [B, *shape], twice the channels for a learned variance.

The conditioning is labels int64 [B], encoded prompts [B, L, D], or None for an unconditional estimate.
"""

MAX_OUTPUTS = 4  # what one fused step takes; more are mixed first


@dataclass(frozen=True)
class Estimate:
    """x_0 in unevaluated linear form, clip(p x + sum_i q_i out_i), so that a step fuses it with its update.

    ``x`` and each of ``outputs`` have the shape [B, *shape] and one dtype; ``t`` is the level of x.
    ``variance_range`` is the learned-range output of Nichol & Dhariwal 2021 in about [-1, 1], shaped like x.
    """

    x: Tensor
    t: int
    p: float
    outputs: tuple[Tensor, ...]
    q: tuple[float, ...]
    clip: float | None = None
    variance_range: Tensor | None = None

    @classmethod
    def from_x0(cls, x: Tensor, t: int, *, x0: Tensor) -> Estimate:
        """The estimate ``x0``, already evaluated."""
        return cls(x, t, 0.0, (x0,), (1.0,))

    def x0(self) -> Tensor:
        """The evaluated estimate, [B, *shape]; differentiable."""
        few = self if len(self.outputs) <= MAX_OUTPUTS else self.merged()
        return ops.step(
            few.x, few.outputs, coefficients([0.0, 1.0, 0.0, few.p, *few.q], few.x), clip=few.clip
        )

    def merged(self) -> Estimate:
        """The same estimate with one output, x_0 before clipping; for more outputs than a step takes."""
        x0 = self.p * self.x
        for q, out in zip(self.q, self.outputs, strict=True):
            x0 = x0 + q * out
        return replace(self, p=0.0, outputs=(x0,), q=(1.0,))


Denoiser = Callable[[Tensor, int], Estimate]
"""(x_t [B, *shape], level t in 1..T) -> the estimate of x_0 there."""


def coefficients(row: list[float], like: Tensor) -> Tensor:
    """One row of coefficients [1, K] on the device of ``like``, float64 cast once to the step's dtype.

    The tensor is cached for the next loop with this row (:mod:`latentdiff.ops.constants`): never write to it.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return constants.constant_row(row, dtype=dtype, device=like.device)


Level = TypeVar("Level", int, Tensor)


def timestep(t: Level) -> Level:
    """The timestep 0..T-1 that the network gets for level t in 1..T; the only place of this shift."""
    return t - 1


def guided(cond: Estimate, uncond: Estimate, w: float) -> Estimate:
    """Classifier-free guidance w cond + (1 - w) uncond, still linear (Ho & Salimans 2022, eq. 6 with w there
    = w - 1).

    w = 0 is unconditional, w = 1 conditional; both estimates are of the same x.
    """
    return replace(
        cond,
        outputs=(*cond.outputs, *uncond.outputs),
        q=(*(w * q for q in cond.q), *((1 - w) * q for q in uncond.q)),
        p=w * cond.p + (1 - w) * uncond.p,
    )


def rescaled(cond: Estimate, guided: Estimate, phi: float) -> Estimate:
    """Guidance without overexposure: the guided output brought ``phi`` of the way to the conditional one's
    deviation.

    Both are estimates of the same x; deviations are those of an image over all its values. Lin et al. 2024,
    eq. 15 and 16.
    """

    def output(estimate: Estimate) -> Tensor:
        """The network output that the estimate stands for: the weighted sum of its outputs."""
        return torch.stack(
            [q / cond.q[0] * out for q, out in zip(estimate.q, estimate.outputs, strict=True)]
        ).sum(0)

    def deviation(out: Tensor) -> Tensor:
        return out.flatten(1).std(1).view(-1, *[1] * (out.ndim - 1))

    out = output(guided)
    ratio = deviation(output(cond)) / deviation(out).clamp_min(torch.finfo(out.dtype).tiny)
    return replace(guided, outputs=(out * (phi * ratio + (1 - phi)),), q=cond.q[:1])


@dataclass(frozen=True)
class Condition:
    """The conditioning of a network: ``labels`` int64 [B], the guidance scale ``w`` and the ``null`` label.

    For a text-conditional network ``labels`` are the encoded prompts [B, L, D] and ``null`` the encoded empty
    or negative prompt, [1, L, D] or [B, L, D]. Guidance acts at the levels with ``low`` <= t / T <= ``high``
    (Kynkäänniemi et al. 2024, "limited interval"); at the others the estimate is conditional, for half the
    work. ``rescale``: see :func:`rescaled`.
    """

    labels: Tensor
    null: int | Tensor
    w: float = 1.0
    low: float = 0.0
    high: float = 1.0
    rescale: float = 0.0

    def scale(self, t: int, T: int) -> float:
        """The guidance scale at level t of T."""
        return self.w if self.low <= t / T <= self.high else 1.0

    def unconditional(self) -> Tensor:
        """The null condition for every sample, shaped like ``labels``."""
        if isinstance(self.null, int):
            return torch.full_like(self.labels, self.null)
        return self.null.expand_as(self.labels)

    def cond_uncond(self) -> Tensor:
        """``labels``, then the null condition, [2 B, ...]; a new tensor, as a captured loop writes labels in
        place.
        """
        return torch.cat([self.labels, self.unconditional()])


def in_dtype(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """The network computing in ``dtype`` (autocast), with float32 outputs."""

    def call(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return network(x, t, labels).float()

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

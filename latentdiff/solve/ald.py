"""ScoreALD: the gradient of a likelihood that compares x_t itself with the measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from latentdiff.denoise import Denoiser, Estimate
from latentdiff.schedule import Schedule
from latentdiff.solve.descend import Measure


def ald(
    denoise: Denoiser,
    measure: Measure,
    y: Tensor,
    schedule: Schedule,
    *,
    sigma: float,
    gamma: Callable[[int], float] | None = None,
) -> Denoiser:
    """The denoiser of the score s(x_t) + grad log N(y; A(x_t / alpha_t), sigma^2 + gamma_t^2) (Jalal et al. 2021, eq. 4).

    ``gamma`` (default sigma_t / alpha_t, the noise of x_t / alpha_t) anneals the trust in the measurement. The score of x_t and the estimate of x_0 are one thing,
    x_0 = (x_t + sigma_t^2 s) / alpha_t, so the gradient enters the estimate and any step can follow; with the ancestral step this
    is the published algorithm in one pass over the levels. The division by alpha_t is needed in a process that shrinks the image; listings that compare y with x_t alone are for
    processes that do not. At levels without signal the measurement says nothing.
    """

    def likely(x: Tensor, t: int) -> Estimate:
        alpha, spread = schedule.at(t)
        estimate = denoise(x, t)
        if alpha == 0:
            return estimate
        blur = spread / alpha if gamma is None else gamma(t)
        with torch.enable_grad():
            image = (x.detach() / alpha).requires_grad_()
            misfit = (y - measure(image)).square().sum() / (2 * (sigma**2 + blur**2))
            (gradient,) = torch.autograd.grad(misfit, image)
        weight = (spread / alpha) ** 2  # sigma^2 / alpha of Tweedie, 1 / alpha of the inner derivative
        return replace(estimate, outs=(*estimate.outs, gradient), q=(*estimate.q, -weight))

    return likely

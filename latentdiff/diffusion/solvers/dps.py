"""DPS and PSLD: steps that end in a descent along the gradient of the measurement error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.operators import Operator, norms
from latentdiff.diffusion.samplers import SamplerStep, StepResult
from latentdiff.diffusion.solvers.problem import InverseProblem, LoopArguments
from latentdiff.ops.random import Key

Measure = Callable[[Tensor], Tensor]
"""x_0 [B, *shape] -> its measurement, differentiable: an Operator, or one after a decoder."""
Loss = Callable[[Tensor], Tensor]
"""x_0 [B, *shape] -> a number for each sample [B], differentiable."""
StepSize = Literal["residual", "gradient"]


def descending(step: SamplerStep, loss: Loss, *, normalized: float | None = None) -> SamplerStep:
    """``step``, then x_s - grad of ``loss`` of the estimate by x_t, through the network, sample by sample.

    ``normalized``: the length of the gradient of each sample instead of its own.
    """

    def descend(
        denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> StepResult:
        with torch.enable_grad():
            here = x.detach().requires_grad_()
            estimate = denoise(here, t)
            (gradient,) = torch.autograd.grad(loss(estimate.x0()).sum(), here)
        found = _detached(estimate)

        def known(_: Tensor, level: int) -> Estimate:
            if level != t:
                raise ValueError("a descent needs a sampler with one evaluation of the network a move")
            return found

        moved, _ = step(known, x, t, s, key, previous)
        if normalized is not None:
            length = norms(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
            gradient = gradient * (normalized / length).view(-1, *[1] * (x.ndim - 1))
        return moved - gradient, found

    return descend


def dps(
    step: SamplerStep, measure: Measure, y: Tensor, *, zeta: float = 1.0, size: StepSize = "residual"
) -> SamplerStep:
    """Diffusion posterior sampling (Chung et al. 2023, algorithm 1).

    ``size``: "residual" divides the step by the norm of the residual, zeta_t = zeta / |y - A(x_0)| as
    published, so that the move is zeta times the gradient of 2 |y - A(x_0)|; "gradient": each is ``zeta``
    long.
    """

    def residual(x0: Tensor) -> Tensor:
        return 2 * norms(y - measure(x0))

    if size == "gradient":
        return descending(step, residual, normalized=zeta)
    return descending(step, lambda x0: zeta * residual(x0))


def dps_loop(
    problem: InverseProblem, loop: LoopArguments, *, zeta: float, step_size: StepSize
) -> LoopArguments:
    """The loop of DPS; of latents through the decoder."""
    return loop._replace(step=dps(loop.step, problem.measure, problem.y, zeta=zeta, size=step_size))


def psld(
    step: SamplerStep,
    operator: Operator,
    y: Tensor,
    *,
    decode: Callable[[Tensor], Tensor],
    encode: Callable[[Tensor], Tensor],
    eta: float = 1.0,
    gamma: float = 0.1,
) -> SamplerStep:
    """Posterior sampling with latents (Rout et al. 2023, algorithm 2): DPS through the decoder and a term
    that keeps latents on encodings of images.

    The descent is along eta |y - A D(z)| + gamma |z - E(A^T y + D(z) - A^T A D(z))|: z has to be the code of
    the image that takes what was measured from y and the rest from D(z). ``decode`` and ``encode`` are
    between latents and images.
    """

    def loss(z: Tensor) -> Tensor:
        image = decode(z)
        glued = operator.adjoint(y) + image - operator.adjoint(operator(image))
        return eta * norms(y - operator(image)) + gamma * norms(z - encode(glued))

    return descending(step, loss)


def psld_loop(
    problem: InverseProblem, loop: LoopArguments, *, zeta: float, psld_gamma: float
) -> LoopArguments:
    """The loop of PSLD."""
    step = psld(
        loop.step,
        problem.operator,
        problem.y,
        decode=problem.decode,
        encode=problem.encode,
        eta=zeta,
        gamma=psld_gamma,
    )
    return loop._replace(step=step)


def _detached(estimate: Estimate) -> Estimate:
    variance_range = None if estimate.variance_range is None else estimate.variance_range.detach()
    outputs = tuple(out.detach() for out in estimate.outputs)
    return replace(estimate, x=estimate.x.detach(), outputs=outputs, variance_range=variance_range)

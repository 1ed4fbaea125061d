"""DiffPIR: a denoiser whose estimates E[x_0 | x_t] are corrected to E[x_0 | x_t, y]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.operators import Operator, proximal
from latentdiff.diffusion.samplers import diffpir_step
from latentdiff.diffusion.schedule import Schedule
from latentdiff.diffusion.solvers.problem import InverseProblem, LoopArguments

Correction = Callable[[Tensor, int], Tensor]
"""(x_0 estimate [B, *shape], t) -> the estimate given the measurement."""


def corrected(denoise: Denoiser, correct: Correction) -> Denoiser:
    """The denoiser whose estimates (clipped, where they are) pass through ``correct``."""

    def conditioned(x: Tensor, t: int) -> Estimate:
        return Estimate.from_x0(x, t, x0=correct(denoise(x, t).x0(), t))

    return conditioned


def half_quadratic(
    operator: Operator, y: Tensor, schedule: Schedule, *, sigma: float, strength: float = 1.0
) -> Correction:
    """DiffPIR's data step: argmin_z |y - A z|^2 / (2 sigma^2) + strength |z - x_0|^2 / (2 sigbar_t^2), sigbar
    = sigma_t / alpha_t.

    That is E[x_0 | x_t, y] if p(x_0 | x_t) had the variance sigbar_t^2 / strength in every direction.
    ``sigma``: the noise of y; 0 is taken as 1e-3, as rho would vanish. Zhu et al. 2023, eq. 12, 13 (lambda).
    """
    noise = max(sigma, 1e-3)

    def correct(x0: Tensor, t: int) -> Tensor:
        alpha, spread = schedule.at(t)
        if alpha == 0:
            return x0
        return proximal(operator, y.to(x0), x0, strength * (noise * alpha / spread) ** 2)

    return correct


def diffpir_loop(
    problem: InverseProblem, loop: LoopArguments, *, diffpir_lambda: float, diffpir_zeta: float
) -> LoopArguments:
    """The loop of DiffPIR (Zhu et al. 2023, algorithm 1); of latents the decoded estimate is corrected."""
    correct = half_quadratic(
        problem.operator, problem.y, problem.schedule, sigma=problem.sigma, strength=diffpir_lambda
    )
    denoise = corrected(loop.denoise, lambda x0, t: problem.encode(correct(problem.decode(x0), t)))
    return loop._replace(denoise=denoise, step=diffpir_step(problem.schedule, share=diffpir_zeta))


def gaussian_update(a: Tensor, y: Tensor, covariance: Callable[[int], Tensor], *, sigma: float) -> Correction:
    """The exact correction where p(x_0 | x_t) = N(x_0 estimate, C_t): x_0 + C A^T (A C A^T + sigma^2)^-1 (y -
    A x_0).

    For vectors [B, n], a matrix ``a`` [m, n] and ``covariance(t)`` [n, n]: with the covariance of a Gaussian
    prior the reverse process ends in its posterior. Boys et al. 2023 (Tweedie moment projection), eq. 9.
    """

    def correct(x0: Tensor, t: int) -> Tensor:
        c = covariance(t).to(x0)
        seen = a.to(x0)
        noise = sigma**2 * torch.eye(len(seen), dtype=x0.dtype, device=x0.device)
        gain: Tensor = torch.linalg.solve(seen @ c @ seen.T + noise, seen @ c)
        return x0 + (y.to(x0) - x0 @ seen.T) @ gain

    return correct

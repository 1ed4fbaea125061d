"""ScoreALD: the gradient of a likelihood that compares x_t itself with the measurement."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.samplers import SamplerStep, StepResult
from latentdiff.diffusion.schedule import Schedule
from latentdiff.diffusion.solvers.dps import Measure
from latentdiff.diffusion.solvers.problem import InverseProblem, LoopArguments
from latentdiff.ops.random import Key


def score_ald(
    step: SamplerStep, measure: Measure, y: Tensor, schedule: Schedule, *, sigma: float, anneal: float = 0.5
) -> SamplerStep:
    """``step`` with the score s(x_t) + grad log N(y; A(x_t / alpha_t), sigma^2 + gamma_t^2) (Jalal et al.
    2021, eq. 4).

    gamma_t = ``anneal`` sigma_t / alpha_t, a share of the noise of x_t / alpha_t, anneals the trust in the
    measurement: smaller shares follow it more closely. The score of x_t and the estimate of x_0 are one
    thing, x_0 = (x_t + sigma_t^2 s) / alpha_t, so the gradient enters the estimate and any step can follow;
    with the ancestral step this is the published algorithm in one pass over the levels. The division by
    alpha_t is needed in a process that shrinks the image; listings that compare y with x_t alone are for
    processes that do not. At levels without signal the measurement says nothing.

    The published chain makes many small moves at each level, this one a single move from t to s in which
    alpha grows by r: what was measured is moved r - 1 times as far as the gradient says. Moves that would
    overshoot the measurement are shortened to it, by the factor (sigma^2 + gamma_t^2) alpha_t^2 / ((r - 1)
    sigma_t^2): near pure noise, where r is in the hundreds, they diverge otherwise.
    """

    def move(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        alpha, spread = schedule.at(t)
        if alpha == 0:
            return step(denoise, x, t, s, key, previous)
        noise = (spread / alpha) ** 2
        # sigma^2 / alpha of Tweedie, 1 / alpha of the inner derivative
        weight = noise / (sigma**2 + anneal**2 * noise)
        growth = schedule.at(s)[0] / alpha - 1
        weight = min(weight, 1 / growth) if growth > 0 else weight
        with torch.enable_grad():
            image = (x.detach() / alpha).requires_grad_()
            (gradient,) = torch.autograd.grad((y - measure(image)).square().sum() / 2, image)

        def likely(x: Tensor, level: int) -> Estimate:
            if level != t:
                raise ValueError("ScoreALD needs a sampler with one evaluation of the network a move")
            estimate = denoise(x, level)
            return replace(estimate, outputs=(*estimate.outputs, gradient), q=(*estimate.q, -weight))

        return step(likely, x, t, s, key, previous)

    return move


def score_ald_loop(problem: InverseProblem, loop: LoopArguments, *, anneal: float) -> LoopArguments:
    """The loop of ScoreALD; of latents through the decoder.

    A noise of 0 is taken as 1e-3, where the likelihood is still finite.
    """
    step = score_ald(
        loop.step, problem.measure, problem.y, problem.schedule, sigma=max(problem.sigma, 1e-3), anneal=anneal
    )
    return loop._replace(step=step)

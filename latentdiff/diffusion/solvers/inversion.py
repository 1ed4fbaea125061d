"""DDIM inversion: the step from an image towards the noise that DDIM draws it from."""

from __future__ import annotations

from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.samplers import SamplerStep, StepCoefficients, apply_step
from latentdiff.diffusion.schedule import Schedule
from latentdiff.ops.random import Key


def inverse_ddim_step(schedule: Schedule) -> SamplerStep:
    """The DDIM step reversed, x_s = alpha_s x_0 + sigma_s eps for s > t with the estimates made at x_t.

    On the way back DDIM makes them at x_s: their difference is the error of a round trip, which falls as one
    over the number of steps where the denoiser is smooth.
    Level 0 has no noise to estimate: its image is kept as x_0, and eps is what the network sees in it at
    level 1. Song et al. 2021, eq. 14; Mokady et al. 2023, section 3. ValueError unless 0 <= t < s <= T.
    """

    def step(
        denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> tuple[Tensor, Estimate]:
        if not 0 <= t < s <= schedule.T:
            raise ValueError(f"an inverse move needs 0 <= t < s <= {schedule.T}, got t = {t}, s = {s}")
        (alpha, sigma), (alpha_s, sigma_s) = schedule.at(max(t, 1)), schedule.at(s)
        estimate, k = denoise(x, max(t, 1)), sigma_s / sigma
        if t == 0:
            return apply_step(estimate, StepCoefficients(alpha_s + k, -k * alpha, 0.0)), estimate
        return apply_step(estimate, StepCoefficients(k, alpha_s - k * alpha, 0.0)), estimate

    return step

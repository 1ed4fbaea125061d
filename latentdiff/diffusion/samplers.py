"""Samplers: one move of the sampling loop from level t to a level s, x_s = k x_t + m x_0 + c z.

DDIM, DDPM, DPM-Solver++(2M), Heun, DiffPIR's step and DDIM reversed (s > t); :func:`apply_step` computes the
move of every one in one fused operation. :func:`make_sampler` returns the step of a model's settings and the
levels that it visits, which :func:`latentdiff.diffusion.loop.sample` goes through.

A new sampler is a function, a row of :data:`SAMPLERS` here and one of
:data:`latentdiff.config.sampling.SAMPLERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from latentdiff import ops
from latentdiff.config.diffusion import NEEDS_SIGNAL, DiffusionConfig
from latentdiff.config.sampling import SAMPLERS as SAMPLER_INFO
from latentdiff.config.sampling import Sampler, Sampling
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import MAX_OUTPUTS, Estimate, coefficients
from latentdiff.diffusion.schedule import MAX_NOISE, Schedule
from latentdiff.errors import InputError
from latentdiff.ops.random import Key

StepResult = tuple[Tensor, Estimate]
"""What a move returns: x_s, and the estimate at t that led there."""

SamplerStep = Callable[[Denoiser, Tensor, int, int, Key, "Estimate | None"], StepResult]
"""(denoise, x_t, t, s, key, previous estimate) -> (x_s, estimate at t)."""

VarianceKind = Literal["small", "large", "learned"]
Direction = Literal["clipped", "unclipped"]


@dataclass(frozen=True)
class StepCoefficients:
    """The coefficients of x_s = k x_t + m x_0 + c z."""

    k: float
    m: float
    c: float


def ddim_coefficients(schedule: Schedule, t: int, s: int, *, eta: float = 0.0) -> StepCoefficients:
    """The move t -> s < t of DDIM (Song et al. 2021, eq. 12 and 16), for any alpha and sigma.

    eta = 1 is the posterior q(x_s | x_t, x_0), small DDPM variance. ValueError unless 0 <= s < t <= T.
    """
    if not 0 <= s < t <= schedule.T:
        raise ValueError(f"a reverse move needs 0 <= s < t <= {schedule.T}, got t = {t}, s = {s}")
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
    c = eta * sigma_s / sigma_t * forward_sigma(schedule, t, s)
    k = math.sqrt(max(sigma_s**2 - c**2, 0.0)) / sigma_t
    return StepCoefficients(k, alpha_s - k * alpha_t, c)


def forward_sigma(schedule: Schedule, t: int, s: int) -> float:
    """Deviation of the noise of the forward kernel s -> t, sqrt(beta) of the merged step."""
    return math.sqrt(float(schedule.forward_variance(t, s)))


def apply_step(
    estimate: Estimate,
    move: StepCoefficients,
    *,
    key: Key | None = None,
    noise: Tensor | None = None,
    unclipped: float | None = None,
) -> Tensor:
    """Apply a move to an estimate in one fused operation: guidance, prediction, clip, update and noise.

    ``unclipped`` = alpha_t keeps the direction of the unclipped estimate, as stock DDIM implementations do:
    the k x_t + m x_0 of the move is then alpha_s clip(x_0) + k sigma_t eps with eps from the raw outputs.
    """
    if len(estimate.outputs) > MAX_OUTPUTS:
        estimate = estimate.merged()
    row = [move.k, move.m, move.c, estimate.p, *estimate.q]
    if unclipped is not None and estimate.clip is not None:
        alpha = unclipped
        # k sigma eps = k (x - alpha x_0) with the raw x_0, so only alpha_s = m + k alpha is left for the
        # clipped one.
        row = [move.k * (1 - alpha * estimate.p), move.m + move.k * alpha, move.c, estimate.p, *estimate.q]
        row += [-move.k * alpha * q for q in estimate.q]
    coef = coefficients(row, estimate.x)
    if move.c == 0:
        return ops.step(estimate.x, estimate.outputs, coef, clip=estimate.clip)
    if noise is not None:
        return ops.step(estimate.x, estimate.outputs, coef, clip=estimate.clip, noise=noise)
    if key is None:
        raise ValueError(f"a move with noise (c = {move.c:g}) needs a key or a noise tensor, got neither")
    return ops.step(
        estimate.x, estimate.outputs, coef, clip=estimate.clip, seeds=key.seeds, stream=key.stream_tensor()
    )


def ddim(schedule: Schedule, *, eta: float = 0.0, direction: Direction = "clipped") -> SamplerStep:
    """DDIM (Song et al. 2021, eq. 12); eta = 0 is deterministic, eta = 1 is DDPM with the small variance.

    ``direction`` decides for clipped estimates whether the noise direction is read from the clipped x_0 (the
    posterior mean of Ho et al.) or kept from the network.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"`eta` must lie in [0, 1], got {eta}")

    def step(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        estimate = denoise(x, t)
        raw = schedule.at(t)[0] if direction == "unclipped" else None
        return (
            apply_step(estimate, ddim_coefficients(schedule, t, s, eta=eta), key=key, unclipped=raw),
            estimate,
        )

    return step


def ddpm(schedule: Schedule, *, variance: VarianceKind = "small") -> SamplerStep:
    """DDPM's ancestral step (Ho et al. 2020, eq. 6 and 7) over any levels.

    ``variance``: small is the posterior's (beta tilde), large is beta (not on the last move, whose result is
    the estimate), learned interpolates between them in the logarithm (Nichol & Dhariwal 2021, eq. 15).
    """
    if variance == "small":
        return ddim(schedule, eta=1.0)

    def step(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        estimate = denoise(x, t)
        move = ddim_coefficients(schedule, t, s, eta=1.0)
        if s == 0:
            return apply_step(estimate, replace(move, c=0.0)), estimate
        large = math.sqrt(float(schedule.reverse_variance(t, s)))
        if variance == "large":
            return apply_step(estimate, replace(move, c=large), key=key), estimate
        if estimate.variance_range is None:
            raise ValueError(
                "`variance` learned needs a network trained with learned variance; this one has a fixed one"
            )
        std = ((estimate.variance_range + 1) / 2 * math.log(large / move.c) + math.log(move.c)).exp()
        noise = std * key.normal(x.shape[1:], dtype=x.dtype)
        return apply_step(estimate, replace(move, c=1.0), noise=noise), estimate

    return step


def diffpir_step(schedule: Schedule, *, share: float = 0.0) -> SamplerStep:
    """DDIM whose noise is ``share`` (0 to 1) of the variance of x_s at every level: c^2 = share sigma_s^2, k
    = sqrt(1 - share) sigma_s / sigma_t.

    0 is DDIM; 1 forgets x_t but for its estimate. Zhu et al. 2023 (DiffPIR), eq. 15, with zeta = share.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"`share` must lie in [0, 1], got {share}")

    def step(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        estimate, k = denoise(x, t), math.sqrt(1 - share) * sigma_s / sigma_t
        return (
            apply_step(
                estimate, StepCoefficients(k, alpha_s - k * alpha_t, math.sqrt(share) * sigma_s), key=key
            ),
            estimate,
        )

    return step


def dpmpp2m(schedule: Schedule) -> SamplerStep:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): DDIM's move from x_0 extrapolated from the last two.

    Of first order are the first move, the last one (to level 0), and those from no signal or after a move up.
    """

    def step(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        x0 = denoise(x, t).x0()
        known, move = Estimate.from_x0(x, t, x0=x0), ddim_coefficients(schedule, t, s)
        if (
            previous is None
            or previous.t <= t
            or s == 0
            or math.isinf(before := schedule.log_snr(previous.t))
        ):
            return apply_step(known, move), known
        here = schedule.log_snr(t)
        r = (here - before) / (schedule.log_snr(s) - here)
        extrapolated = replace(known, outputs=(x0, previous.x0()), q=(1 + 0.5 / r, -0.5 / r))
        return apply_step(extrapolated, move), known

    return step


def heun(schedule: Schedule) -> SamplerStep:
    """Heun's method on the probability-flow ODE of x / alpha over n = sigma / alpha (Karras et al. 2022,
    algorithm 1 without noise): second order, two evaluations of the network a move.

    The mean of the slopes at t and s makes DDIM's move from x_0(t) + h (x_0(s) - x_0(t)) with
    h = n_t / (2 n_s). Of first order, with one evaluation, are the last move (to level 0) and moves from
    levels with n_t > 80, where x_0 hardly changes and h is large.
    """

    def step(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        x0, move = denoise(x, t).x0(), ddim_coefficients(schedule, t, s)
        known = Estimate.from_x0(x, t, x0=x0)
        moved = apply_step(known, move)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        if s == 0 or sigma_t > MAX_NOISE * alpha_t:
            return moved, known
        h = sigma_t * alpha_s / (2 * alpha_t * sigma_s)
        averaged = replace(known, outputs=(x0, denoise(moved, s).x0()), q=(1 - h, h))
        return apply_step(averaged, move), known

    return step


def inverse_ddim_step(schedule: Schedule) -> SamplerStep:
    """The DDIM step reversed, x_s = alpha_s x_0 + sigma_s eps for s > t with the estimates made at x_t.

    On the way back DDIM makes them at x_s: their difference is the error of a round trip, which falls as one
    over the number of steps where the denoiser is smooth. Level 0 has no noise to estimate: its image is kept
    as x_0, and eps is what the network sees in it at level 1. Song et al. 2021, eq. 14; Mokady et al. 2023,
    section 3. ValueError unless 0 <= t < s <= T.
    """

    def step(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        if not 0 <= t < s <= schedule.T:
            raise ValueError(f"an inverse move needs 0 <= t < s <= {schedule.T}, got t = {t}, s = {s}")
        (alpha, sigma), (alpha_s, sigma_s) = schedule.at(max(t, 1)), schedule.at(s)
        estimate, k = denoise(x, max(t, 1)), sigma_s / sigma
        if t == 0:
            return apply_step(estimate, StepCoefficients(alpha_s + k, -k * alpha, 0.0)), estimate
        return apply_step(estimate, StepCoefficients(k, alpha_s - k * alpha, 0.0)), estimate

    return step


SAMPLERS: dict[Sampler, Callable[[Schedule, Sampling, DiffusionConfig], SamplerStep]] = {
    "ddim": lambda schedule, settings, diffusion: ddim(
        schedule,
        eta=settings.eta or 0.0,
        direction="unclipped" if diffusion.rules == "diffusers" else "clipped",
    ),
    "ddpm": lambda schedule, settings, _: ddpm(schedule, variance=settings.variance or "small"),
    "dpm++": lambda schedule, *_: dpmpp2m(schedule),
    "heun": lambda schedule, *_: heun(schedule),
}
"""The step of each sampler, made from a schedule, the settings and the process of a model."""


MIN_ALPHA = 1 / 32
"""The least alpha from which x_0 is read out of eps or the score, unless it is clipped."""


def max_level(diffusion: DiffusionConfig, schedule: Schedule) -> int:
    """The level that sampling starts from: T, or the highest with alpha >= MIN_ALPHA where the network
    predicts eps or the score.

    Above it x_0 = (x_t - sigma eps) / alpha multiplies the network's errors by more than 1 / MIN_ALPHA
    (20,000 at level T of the cosine schedule), and deterministic samplers keep these errors, while x_t is
    noise there but for a thousandth of its variance. diffusers starts at T, and so do its models here.
    """
    if (
        diffusion.prediction not in NEEDS_SIGNAL
        or diffusion.clip is not None
        or diffusion.rules == "diffusers"
    ):
        return schedule.T
    return max(1, int((schedule.alpha[1:] >= MIN_ALPHA).sum()))


def with_defaults(settings: Sampling, diffusion: DiffusionConfig, schedule: Schedule) -> Sampling:
    """The settings with the defaults of a model's process, and no more steps than levels to start from."""
    usual = "learned" if diffusion.variance == "learned" else diffusion.noise
    takes = "variance" in SAMPLER_INFO[settings.sampler].settings
    variance = (settings.variance or usual) if takes else None
    count = settings.count(schedule.T)
    steps = min(count, max_level(diffusion, schedule)) if count <= schedule.T else count
    return settings.model_copy(update={"steps": steps, "variance": variance})


def check_variance(variance: VarianceKind | None, diffusion: DiffusionConfig) -> None:
    """InputError for the learned variance of a model that was trained with a fixed one."""
    if variance == "learned" and diffusion.variance != "learned":
        raise InputError(
            "`variance` learned needs a model trained with it; this one has a fixed variance, expected small"
            " or large"
        )


def make_sampler(
    settings: Sampling, diffusion: DiffusionConfig, schedule: Schedule
) -> tuple[SamplerStep, list[int]]:
    """The step of a sampler and the descending levels that it visits.

    InputError for more steps than levels, a learned variance of a model that has none, and levels that start
    below T in a process that does not preserve variance.
    """
    settings = with_defaults(settings, diffusion, schedule)
    count = settings.count(schedule.T)
    if count > schedule.T:
        raise InputError(f"`steps` must be at most {schedule.T}, the levels of this model, got {count}")
    levels = schedule.levels(count, settings.spacing, top=max_level(diffusion, schedule))
    if levels[0] < schedule.T and not schedule.preserves_variance:
        raise InputError(
            f"`spacing` {settings.spacing} starts at level {levels[0]}, where the {schedule.config.kind}"
            f" schedule has noise of another deviation than at {schedule.T}; expected another, as trailing"
        )
    check_variance(settings.variance, diffusion)
    return SAMPLERS[settings.sampler](schedule, settings, diffusion), levels

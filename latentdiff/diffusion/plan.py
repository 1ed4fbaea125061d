"""From the settings of a sampler to what the loop needs: a step and the levels it visits."""

from __future__ import annotations

from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.samplers import Direction, SamplerStep, ddim, ddpm, dpmpp2m
from latentdiff.diffusion.schedule import Schedule
from latentdiff.errors import InputError

MIN_ALPHA = 1 / 32
"""The least alpha from which x_0 is read out of eps or the score, unless it is clipped."""


def max_level(diffusion: DiffusionConfig, schedule: Schedule) -> int:
    """The level that sampling starts from: T, or the highest with alpha >= SIGNAL where the network says eps
    or the score.

    Above it x_0 = (x_t - sigma eps) / alpha multiplies the network's errors by more than 1 / SIGNAL, 20,000
    at level T of the cosine schedule, and deterministic samplers carry that along, while x_t is noise there
    but for a thousandth of its variance. diffusers starts at T all the same, and so do its models here.
    """
    if (
        diffusion.prediction not in ("eps", "score")
        or diffusion.clip is not None
        or diffusion.rules == "diffusers"
    ):
        return schedule.T
    return max(1, int((schedule.alpha[1:] >= MIN_ALPHA).sum()))


def with_defaults(settings: Sampling, diffusion: DiffusionConfig, schedule: Schedule) -> Sampling:
    """The settings with the defaults of a model's process filled in, and no more steps than it has levels to
    start from.
    """
    usual = "learned" if diffusion.variance == "learned" else diffusion.noise
    variance = (settings.variance or usual) if settings.sampler == "ddpm" else None
    count = settings.count(schedule.T)
    steps = min(count, max_level(diffusion, schedule)) if count <= schedule.T else count
    return settings.model_copy(update={"steps": steps, "variance": variance})


def plan(settings: Sampling, diffusion: DiffusionConfig, schedule: Schedule) -> tuple[SamplerStep, list[int]]:
    """The step and the descending levels of a sampler; InputError where the model cannot follow."""
    settings = with_defaults(settings, diffusion, schedule)
    count = settings.count(schedule.T)
    if count > schedule.T:
        raise InputError(f"steps must be at most {schedule.T}, the levels of this model, got {count}")
    levels = schedule.levels(count, settings.spacing, top=max_level(diffusion, schedule))
    if settings.variance == "learned" and diffusion.variance != "learned":
        raise InputError(
            "variance 'learned' needs a model trained with --variance learned; this one has fixed variance,"
            " expected small or large (--variance small)"
        )
    if settings.sampler == "ddim":
        direction: Direction = "unclipped" if diffusion.rules == "diffusers" else "clipped"
        return ddim(schedule, eta=settings.eta, direction=direction), levels
    if settings.sampler == "dpm++":
        return dpmpp2m(schedule), levels
    return ddpm(schedule, variance=settings.variance or "small"), levels

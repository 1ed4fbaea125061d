"""From the settings of a sampler to what the loop needs: a step and the levels it visits."""

from __future__ import annotations

from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError
from latentdiff.schedule import Schedule
from latentdiff.step import Step, ddim, ddpm, dpmpp2m


def resolved(settings: Sampling, diffusion: DiffusionConfig) -> Sampling:
    """The settings with the defaults of a model's process filled in."""
    learned = "learned" if diffusion.variance == "learned" else "small"
    variance = (settings.variance or learned) if settings.sampler == "ddpm" else None
    return settings.model_copy(update={"steps": settings.count(diffusion.schedule.T), "variance": variance})


def plan(settings: Sampling, diffusion: DiffusionConfig, schedule: Schedule) -> tuple[Step, list[int]]:
    """The step and the descending levels of a sampler; InputError where the model cannot follow."""
    settings = resolved(settings, diffusion)
    count = settings.count(schedule.T)
    if count > schedule.T:
        raise InputError(f"steps must be at most {schedule.T}, the levels of this model, got {count}")
    levels = schedule.levels(count, settings.spacing)
    if settings.variance == "learned" and diffusion.variance != "learned":
        raise InputError(
            "variance 'learned' needs a model trained with --variance learned; this one has fixed variance"
        )
    if settings.sampler == "ddim":
        return ddim(schedule, eta=settings.eta), levels
    if settings.sampler == "dpm++":
        return dpmpp2m(schedule), levels
    return ddpm(schedule, variance=settings.variance or "small"), levels

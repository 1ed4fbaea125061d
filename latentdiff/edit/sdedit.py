"""SDEdit: an image, noised to a level, and denoised again."""

from __future__ import annotations

from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import noised
from latentdiff.diffusion.samplers import max_level
from latentdiff.diffusion.trajectory import SILENT, Recorder, SampleResult
from latentdiff.errors import InputError
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import MicroBatch, Pipeline


def level_of(pipeline: Pipeline, strength: float) -> int:
    """The level of a strength from 0 (the image itself) to 1 (plain sampling); InputError outside."""
    if not 0 <= strength <= 1:
        raise InputError(f"`strength` must lie in [0, 1], got {strength:g}")
    return round(strength * max_level(pipeline.diffusion, pipeline.schedule))


def level_at(pipeline: Pipeline, settings: Sampling, index: int) -> int:
    """The level at a place in the levels of the settings, from 0 (the noisiest); InputError beyond them."""
    levels = pipeline.plan(settings)[1]
    if not 0 <= index < len(levels):
        raise InputError(
            f"`index` must lie in 0..{len(levels) - 1}, the levels of {len(levels) - 1} steps, got {index}"
        )
    return levels[index]


def check_level(pipeline: Pipeline, t: int) -> None:
    """InputError unless a level lies in 0..T, and is low enough that the network's output determines x_0 (see
    :func:`latentdiff.diffusion.samplers.max_level`), and for a student.
    """
    pipeline.check_levels()
    if not 0 <= t <= pipeline.schedule.T:
        raise InputError(f"`t` must lie in 0..{pipeline.schedule.T}, got {t}")
    top, prediction = max_level(pipeline.diffusion, pipeline.schedule), pipeline.diffusion.prediction
    if t > top:
        raise InputError(
            f"`t` must lie in 0..{top}, above it x_0 cannot be read out of the {prediction} of this model,"
            f" got {t}"
        )


def sdedit(
    pipeline: Pipeline,
    images: Tensor,
    t: int,
    *,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    exact: bool = False,
    recorder: Recorder = SILENT,
) -> SampleResult:
    """Images [n, C, H, W] in [-1, 1], noised to level ``t`` and denoised (Meng et al. 2022, algorithm 2).

    The settings' levels up to ``t`` are visited; ``exact``: as many levels below ``t`` as the settings have
    steps. Level 0 returns what the codec makes of the images; at the highest level, where no signal is left,
    they have no influence. InputError for levels outside 0..T.
    """
    chosen = settings or Sampling()
    check_level(pipeline, t)
    step, every = pipeline.plan(chosen)
    if exact and t:
        levels = pipeline.schedule.levels(min(t, len(every) - 1), chosen.spacing, top=t)
    else:
        levels = [t, *(level for level in every if level < t)]

    def edit(part: MicroBatch) -> SampleResult:
        x = noised(pipeline.encode(images[part.rows]), t, pipeline.schedule, part.key)
        denoise = pipeline.denoiser(part.labels, chosen)
        return pipeline.draw(denoise, x, levels, step, part.key, part.recorder)

    return pipeline.map_images(pipeline.key(seed, len(images)), edit, label=label, recorder=recorder)

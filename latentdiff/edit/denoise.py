"""An image with noise added, denoised three ways: by blur, in one step, and step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import noised
from latentdiff.diffusion.operators import gaussian_blur
from latentdiff.diffusion.samplers import make_sampler
from latentdiff.edit.drawing import (
    SILENT,
    MicroBatch,
    Recorder,
    SampleResult,
    denoiser_of,
    draw,
    encode_images,
    key_of,
    map_images,
)
from latentdiff.edit.sdedit import check_level
from latentdiff.errors import InputError
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import Pipeline


@torch.no_grad()
def noisy(pipeline: Pipeline, images: Tensor, t: int, *, seed: int = 0) -> Tensor:
    """x_t [n, *latent_shape] of images [n, C, H, W] in [-1, 1]; image k draws from seed + k.

    InputError for levels outside 0..T.
    """
    if not 0 <= t <= pipeline.schedule.T:
        raise InputError(f"level must lie in 0..{pipeline.schedule.T}, got {t}")
    return noised(encode_images(pipeline, images), t, pipeline.schedule, key_of(pipeline, seed, len(images)))


def blurred(
    pipeline: Pipeline, x: Tensor, t: int, *, sigma: float = 1.0, size: int | None = None, times: int = 1
) -> Tensor:
    """What classical denoising makes of x_t: images of x_t / alpha_t (of x_t where alpha_t is 0), blurred
    ``times`` times by a Gaussian of ``sigma`` pixels.
    """
    alpha = pipeline.schedule.at(t)[0]
    blur = gaussian_blur(tuple(pipeline.codec.image_shape), sigma=sigma, size=size)  # type: ignore[arg-type]
    images = pipeline.codec.decode(x / alpha if alpha else x)
    for _ in range(times):
        images = blur(images)
    return images.float().clamp(-1, 1).cpu()


@torch.no_grad()
def one_step(
    pipeline: Pipeline, x: Tensor, t: int, *, settings: Sampling | None = None, label: Labels = None
) -> Tensor:
    """The estimate of x_0 at x_t, decoded: the mean of all images that x_t could have been.

    At level 0 the image itself. InputError for levels that say nothing.
    """
    check_level(pipeline, t)
    if t == 0:
        return pipeline.decode(x)

    def estimated(part: MicroBatch) -> SampleResult:
        mine = x[part.rows]
        return SampleResult(
            pipeline.decode(
                denoiser_of(pipeline, settings or Sampling(), part.label, len(mine))(mine, t).x0()
            )
        )

    return map_images(pipeline, len(x), estimated, label=label, seed=0, watch=SILENT).images


def iterated(
    pipeline: Pipeline,
    x: Tensor,
    t: int,
    *,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    watch: Recorder = SILENT,
) -> SampleResult:
    """The reverse process from x_t on: over the settings' levels below ``t``.

    InputError for levels that say nothing.
    """
    check_level(pipeline, t)
    chosen = settings or Sampling()
    step, every = make_sampler(chosen, pipeline.diffusion, pipeline.schedule)
    levels = [t, *(level for level in every if level < t)]

    def made(part: MicroBatch) -> SampleResult:
        mine = x[part.rows]
        denoise, key = (
            denoiser_of(pipeline, chosen, part.label, len(mine)),
            key_of(pipeline, part.seed, len(mine)),
        )
        return draw(pipeline, denoise, mine, levels, step, key, part.watch)

    return map_images(pipeline, len(x), made, label=label, seed=seed, watch=watch)

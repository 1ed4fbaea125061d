"""Denoising of noised images: by a Gaussian blur, in one step, and iteratively."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import noised
from latentdiff.diffusion.operators import gaussian_blur
from latentdiff.diffusion.trajectory import SILENT, Recorder, SampleResult
from latentdiff.edit.sdedit import check_level
from latentdiff.errors import InputError
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import MicroBatch, Pipeline


@torch.no_grad()
def add_noise(pipeline: Pipeline, images: Tensor, t: int, *, seed: int = 0) -> Tensor:
    """x_t [n, *latent_shape] of images [n, C, H, W] in [-1, 1]; image k draws from seed + k.

    InputError for levels outside 0..T.
    """
    if not 0 <= t <= pipeline.schedule.T:
        raise InputError(f"`t` must lie in 0..{pipeline.schedule.T}, got {t}")
    key = pipeline.key(seed, len(images))
    return noised(pipeline.encode(images), t, pipeline.schedule, key)


def blur(
    pipeline: Pipeline, x: Tensor, t: int, *, sigma: float = 1.0, size: int | None = None, times: int = 1
) -> Tensor:
    """Images of x_t / alpha_t (of x_t where alpha_t is 0), blurred ``times`` times by ``sigma`` pixels."""
    alpha = pipeline.schedule.at(t)[0]
    channels, height, width = pipeline.codec.image_shape
    operator = gaussian_blur((channels, height, width), sigma=sigma, size=size)
    images = pipeline.codec.decode(x / alpha if alpha else x)
    for _ in range(times):
        images = operator(images)
    return images.float().clamp(-1, 1).cpu()


@torch.no_grad()
def one_step(
    pipeline: Pipeline, x: Tensor, t: int, *, settings: Sampling | None = None, label: Labels = None
) -> Tensor:
    """The estimate of x_0 at x_t, decoded: the mean of all images that x_t could have been.

    At level 0 the image itself. InputError for levels at which x_0 cannot be read out (:func:`check_level`).
    """
    check_level(pipeline, t)
    if t == 0:
        return pipeline.decode(x)

    def estimate(part: MicroBatch) -> SampleResult:
        return SampleResult(pipeline.decode(pipeline.denoiser(part.labels, settings)(x[part.rows], t).x0()))

    return pipeline.map_images(pipeline.key(0, len(x)), estimate, label=label).images


def denoise_iteratively(
    pipeline: Pipeline,
    x: Tensor,
    t: int,
    *,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    recorder: Recorder = SILENT,
) -> SampleResult:
    """The reverse process from x_t on: over the settings' levels below ``t``.

    InputError as for :func:`one_step`.
    """
    check_level(pipeline, t)
    chosen = settings or Sampling()
    step, every = pipeline.plan(chosen)
    levels = [t, *(level for level in every if level < t)]

    def draw(part: MicroBatch) -> SampleResult:
        denoise = pipeline.denoiser(part.labels, chosen)
        return pipeline.draw(denoise, x[part.rows], levels, step, part.key, part.recorder)

    return pipeline.map_images(pipeline.key(seed, len(x)), draw, label=label, recorder=recorder)

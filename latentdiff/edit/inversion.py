"""DDIM inversion of images: the noise that stands for an image, and what comes back of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import noised, sample
from latentdiff.diffusion.operators import norms
from latentdiff.diffusion.solvers import inverse_ddim_step
from latentdiff.diffusion.trajectory import record
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
from latentdiff.errors import InputError
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import Pipeline

LOOK = 16  # images that a level is chosen by
MORE = 1.1  # times the noise that is there


def first_level(
    pipeline: Pipeline,
    images: Tensor,
    *,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
) -> int:
    """The level to start an inversion of images [n, C, H, W] from: the lowest at which the network sees no
    more noise than there is.

    Near level 0 an estimate of x_0 that is a little off is off by many sigma_t, and the noise that follows
    from it is none: with networks that predict x_0 an inversion from level 0 ends at a deviation of 10
    instead of 1. Looks at the first ``LOOK`` images, so that a batch of any size has the same level; 0 where
    the network is right there, and where it is wrong at every level with more signal than noise. InputError
    for images of another shape.
    """
    chosen = settings or Sampling()
    few = images[:LOOK]
    labels = pipeline.asking.each(label, len(images))
    denoise = denoiser_of(pipeline, chosen, None if labels is None else labels[:LOOK], len(few))
    x0, key = encode_images(pipeline, few), key_of(pipeline, seed, len(few))
    for t in [0, *pipeline.plan(chosen)[1][-2:0:-1]]:
        alpha, sigma = pipeline.schedule.at(max(t, 1))
        if sigma > alpha:
            break
        x = noised(x0, t, pipeline.schedule, key)
        with torch.no_grad():
            seen = (x - alpha * denoise(x, max(t, 1)).x0()) / sigma
        if float(seen.square().mean().sqrt()) <= MORE:
            return t
    return 0


def drawing_levels(levels: Sequence[int], start: int) -> list[int]:
    """The descending ``levels`` of a sampler down to ``start``, and from there to 0 at once; as they are
    where it is 0.
    """
    return [*(t for t in levels if t > start), *((start, 0) if start else (0,))]


def invert(
    pipeline: Pipeline,
    images: Tensor,
    *,
    start: int = 0,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    watch: Recorder = SILENT,
) -> Tensor:
    """The noise x_T [n, *latent_shape] from which DDIM with the same settings makes about the images [n, C,
    H, W] in [-1, 1].

    The images are noised to level ``start`` first (image k from seed + k; :func:`first_level` finds a good
    one), and followed from there. Guidance is the settings'; an inversion with guidance drifts, so that 1 is
    the better choice. Song et al. 2021, section 4.3. InputError for images of another shape, and for a start
    outside 0..T-1.
    """
    if not 0 <= start < pipeline.schedule.T:
        raise InputError(f"start of an inversion must lie in 0..{pipeline.schedule.T - 1}, got {start}")
    chosen = settings or Sampling()
    levels = [start, *(t for t in pipeline.plan(chosen)[1][::-1] if t > start)]

    def noise_of(part: MicroBatch) -> SampleResult:
        x0 = encode_images(pipeline, images[part.rows])
        denoise, key = (
            denoiser_of(pipeline, chosen, part.label, len(x0)),
            key_of(pipeline, part.seed, len(x0)),
        )
        x = noised(x0, start, pipeline.schedule, key)
        states = sample(denoise, x, levels, inverse_ddim_step(pipeline.schedule), key)
        return SampleResult(
            record(states, x, levels, decode=pipeline.decode, progress=part.watch.progress)[0]
        )

    return map_images(pipeline, len(images), noise_of, label=label, seed=seed, watch=watch).images


def from_noise(
    pipeline: Pipeline,
    noise: Tensor,
    *,
    start: int = 0,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    watch: Recorder = SILENT,
) -> SampleResult:
    """Images from given x_T [n, *latent_shape], by the way that an inversion from ``start`` took; another
    label than its own is an edit.
    """
    chosen = settings or Sampling()
    step, every = pipeline.plan(chosen)
    levels = drawing_levels(every, start)

    def made(part: MicroBatch) -> SampleResult:
        x = noise[part.rows].to(pipeline.device)
        denoise, key = denoiser_of(pipeline, chosen, part.label, len(x)), key_of(pipeline, part.seed, len(x))
        return draw(pipeline, denoise, x, levels, step, key, part.watch)

    return map_images(pipeline, len(noise), made, label=label, seed=seed, watch=watch)


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """|found - wanted| / |wanted| of each image, [n]."""
    return norms(found - wanted) / norms(wanted).clamp_min(torch.finfo(wanted.dtype).tiny)

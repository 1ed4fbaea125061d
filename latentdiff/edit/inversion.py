"""DDIM inversion of images to noise, and sampling from that noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import noised
from latentdiff.diffusion.operators import norms
from latentdiff.diffusion.samplers import inverse_ddim_step
from latentdiff.diffusion.trajectory import SILENT, ProgressCallback, Recorder, SampleResult
from latentdiff.errors import InputError
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import MicroBatch, Pipeline

PROBED = 16  # images that the level is chosen by
EXCESS = 1.1  # estimated over true noise, up to which the estimate counts as plausible


def first_level(
    pipeline: Pipeline,
    images: Tensor,
    *,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
) -> int:
    """The level to start an inversion of images [n, C, H, W] from: the lowest at which the estimated noise is
    no stronger than the true one.

    Near level 0 a small error of x_0 is many sigma_t, so that the noise estimated from it is wrong: with
    networks that predict x_0 an inversion from level 0 ends at a deviation of 10 instead of 1. The first
    ``PROBED`` images decide, so that a batch of any size has the same level. Returns 0 where the estimate is
    plausible there, and where it is at no level with more signal than noise. InputError for images of another
    shape.
    """
    pipeline.check_levels()
    chosen = settings or Sampling()
    few = images[:PROBED]
    labels = pipeline.conditioner.resolve(label, len(images))
    each = pipeline.conditioner.encode(None if labels is None else labels[:PROBED], len(few))
    denoise = pipeline.denoiser(each, chosen)
    x0, key = pipeline.encode(few), pipeline.key(seed, len(few))
    for t in [0, *pipeline.plan(chosen)[1][-2:0:-1]]:
        alpha, sigma = pipeline.schedule.at(max(t, 1))
        if sigma > alpha:
            break
        x = noised(x0, t, pipeline.schedule, key)
        with torch.no_grad():
            noise = (x - alpha * denoise(x, max(t, 1)).x0()) / sigma
        if float(noise.square().mean().sqrt()) <= EXCESS:
            return t
    return 0


def drawing_levels(levels: Sequence[int], start: int) -> list[int]:
    """The descending ``levels`` of a sampler down to ``start``, and from there to 0 at once."""
    return [*(t for t in levels if t > start), *((start, 0) if start else (0,))]


def invert(
    pipeline: Pipeline,
    images: Tensor,
    *,
    start: int = 0,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """The noise x_T [n, *latent_shape] from which DDIM makes about the images [n, C, H, W] in [-1, 1].

    The images are noised to level ``start`` first (image k from seed + k; :func:`first_level` finds a good
    one), and followed from there. Guidance is the settings'; an inversion with guidance drifts, so that 1 is
    the better choice. Song et al. 2021, section 4.3. InputError for images of another shape, and for a start
    outside 0..T-1.
    """
    pipeline.check_levels()
    if not 0 <= start < pipeline.schedule.T:
        raise InputError(f"`start` must lie in 0..{pipeline.schedule.T - 1}, got {start}")
    chosen = settings or Sampling()
    levels = [start, *(t for t in pipeline.plan(chosen)[1][::-1] if t > start)]
    step = inverse_ddim_step(pipeline.schedule)

    def noise_of(part: MicroBatch) -> SampleResult:
        x = noised(pipeline.encode(images[part.rows]), start, pipeline.schedule, part.key)
        denoise = pipeline.denoiser(part.labels, chosen)
        return pipeline.draw(denoise, x, levels, step, part.key, part.recorder, decode=lambda x: x)

    return pipeline.map_images(
        pipeline.key(seed, len(images)), noise_of, label=label, recorder=Recorder(progress=progress)
    ).images


def from_noise(
    pipeline: Pipeline,
    noise: Tensor,
    *,
    start: int = 0,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    recorder: Recorder = SILENT,
) -> SampleResult:
    """Sample from x_T [n, *latent_shape] over the levels of an inversion; an edit with another label."""
    chosen = settings or Sampling()
    step, every = pipeline.plan(chosen)
    levels = drawing_levels(every, start)

    def draw(part: MicroBatch) -> SampleResult:
        x, denoise = noise[part.rows].to(pipeline.device), pipeline.denoiser(part.labels, chosen)
        return pipeline.draw(denoise, x, levels, step, part.key, part.recorder)

    return pipeline.map_images(pipeline.key(seed, len(noise)), draw, label=label, recorder=recorder)


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """|found - wanted| / |wanted| of each image, [n]."""
    return norms(found - wanted) / norms(wanted).clamp_min(torch.finfo(wanted.dtype).tiny)

"""DDIM inversion of images: the noise that stands for an image, and what comes back of it."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.edit.drawing import SILENT, Drawn, Watch, denoiser_of, drawn, encoded, key_of
from latentdiff.frames import watched
from latentdiff.operators import norms
from latentdiff.pipeline import Labels, Pipeline
from latentdiff.sample import sample
from latentdiff.solve import inversion


def invert(
    pipeline: Pipeline,
    images: Tensor,
    *,
    settings: Sampling | None = None,
    label: Labels = None,
    watch: Watch = SILENT,
) -> Tensor:
    """The noise x_T [n, *latent_shape] from which DDIM with the same settings makes about the images [n, C, H, W] in [-1, 1].

    Guidance is the settings'; an inversion with guidance drifts, so that 1 is the better choice. Song et al. 2021, section 4.3. InputError for images of
    another shape.
    """
    settings = settings or Sampling()
    x0 = encoded(pipeline, images)
    levels = pipeline.plan(settings)[1][::-1]
    key = key_of(pipeline, 0, len(images))
    states = sample(denoiser_of(pipeline, settings, label, len(images)), x0, levels, inversion(pipeline.schedule), key)
    return watched(states, x0, levels, decode=pipeline.decode, progress=watch.progress)[0]


def from_noise(
    pipeline: Pipeline,
    noise: Tensor,
    *,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    watch: Watch = SILENT,
) -> Drawn:
    """Images from given x_T [n, *latent_shape]; another label than that of the inversion is an edit."""
    settings = settings or Sampling()
    step, levels = pipeline.plan(settings)
    denoise = denoiser_of(pipeline, settings, label, len(noise))
    return drawn(pipeline, denoise, noise.to(pipeline.device), levels, step, key_of(pipeline, seed, len(noise)), watch)


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """|found - wanted| / |wanted| of each image, [n]."""
    return norms(found - wanted) / norms(wanted).clamp_min(torch.finfo(wanted.dtype).tiny)

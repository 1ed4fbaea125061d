"""DDIM inversion of images: the noise that stands for an image, and what comes back of it."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.ask import Labels
from latentdiff.config.sampling import Sampling
from latentdiff.edit.drawing import SILENT, Drawn, Part, Watch, by_parts, denoiser_of, drawn, encoded, key_of
from latentdiff.frames import watched
from latentdiff.operators import norms
from latentdiff.pipeline import Pipeline
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
    chosen = settings or Sampling()
    levels = pipeline.plan(chosen)[1][::-1]

    def noise_of(part: Part) -> Drawn:
        x0 = encoded(pipeline, images[part.rows])
        denoise, key = denoiser_of(pipeline, chosen, part.label, len(x0)), key_of(pipeline, 0, len(x0))
        states = sample(denoise, x0, levels, inversion(pipeline.schedule), key)
        return Drawn(watched(states, x0, levels, decode=pipeline.decode, progress=part.watch.progress)[0])

    return by_parts(pipeline, len(images), noise_of, label=label, seed=0, watch=watch).images


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
    chosen = settings or Sampling()
    step, levels = pipeline.plan(chosen)

    def made(part: Part) -> Drawn:
        x = noise[part.rows].to(pipeline.device)
        denoise, key = denoiser_of(pipeline, chosen, part.label, len(x)), key_of(pipeline, part.seed, len(x))
        return drawn(pipeline, denoise, x, levels, step, key, part.watch)

    return by_parts(pipeline, len(noise), made, label=label, seed=seed, watch=watch)


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """|found - wanted| / |wanted| of each image, [n]."""
    return norms(found - wanted) / norms(wanted).clamp_min(torch.finfo(wanted.dtype).tiny)

"""Restoration of degraded images, y = A x + noise, by the solvers of :mod:`latentdiff.diffusion.solvers`."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.loop import start
from latentdiff.diffusion.operators import Operator, masked
from latentdiff.diffusion.samplers import SamplerStep, diffpir_step
from latentdiff.diffusion.solvers import (
    corrected,
    dps,
    half_quadratic,
    psld,
    repaint,
    repaint_schedule,
    score_ald,
    with_renoising,
)
from latentdiff.diffusion.trajectory import SILENT, Recorder, SampleResult
from latentdiff.edit.sdedit import level_of, sdedit
from latentdiff.errors import InputError
from latentdiff.ops.random import Key
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import MicroBatch, Pipeline

BY_MASK = ("replacement", "repaint")
BY_GRADIENT = ("ald", "dps", "psld")


def measured(operator: Operator, images: Tensor, *, sigma: float = 0.0, seed: int = 0) -> Tensor:
    """y = A x + sigma z of images [n, C, H, W] in [-1, 1]; image k draws its noise from seed + k.

    InputError for a sigma below 0.
    """
    if not sigma >= 0:
        raise InputError(f"sigma must be 0 or more, got {sigma:g}")
    y = operator(images)
    if sigma == 0:
        return y
    return y + sigma * Key.of(seed, len(y), device=y.device).at("degrade").normal(y.shape[1:], dtype=y.dtype)


def backprojection(operator: Operator, y: Tensor) -> Tensor:
    """A measurement as an image: y itself where it has the shape of one, else A^T y divided by the weight
    that A gives each pixel.
    """
    if operator.measured_shape == operator.image_shape:
        return y
    weight = operator.adjoint(operator(y.new_ones(1, *operator.image_shape)))
    return torch.where(weight > 0, operator.adjoint(y) / weight.clamp_min(1e-6), 0.0)


def restore(
    pipeline: Pipeline,
    operator: Operator,
    y: Tensor,
    *,
    how: Restoration | None = None,
    settings: Sampling | None = None,
    sigma: float = 0.0,
    mask: Tensor | None = None,
    label: Labels = None,
    seed: int = 0,
    recorder: Recorder = SILENT,
) -> SampleResult:
    """Restore images [n, C, H, W] from measurements ``y`` [n, *measured_shape] of an operator on images in
    [-1, 1].

    In latent spaces the operator sees the decoded image. ``sigma`` is the noise of y; ``mask`` (1: known),
    [H, W] or [C, H, W], is used by the solvers replacement and repaint, and with a mask the known pixels
    of y are kept exactly where ``sigma`` is 0. InputError for a solver that does not fit the model or the
    operator.
    """
    how, settings = how or Restoration(), settings or Sampling()
    if unused := how.unused(settings):
        raise InputError(
            f"solver {how.solver}: makes moves of its own, expected the ddim sampler without eta, got"
            f" {unused}"
        )
    if tuple(operator.image_shape) != tuple(pipeline.codec.image_shape):
        raise InputError(
            f"expected an operator on {list(pipeline.codec.image_shape)}, got one on"
            f" {list(operator.image_shape)}"
        )
    if tuple(y.shape[1:]) != tuple(operator.measured_shape):
        raise InputError(f"expected measurements {['n', *operator.measured_shape]}, got {list(y.shape)}")
    y = y.to(pipeline.device)
    if how.solver == "sdedit":
        seen = backprojection(operator, y).clamp(-1, 1)
        t = level_of(pipeline, how.strength)
        found = sdedit(pipeline, seen, t, settings=settings, label=label, seed=seed, recorder=recorder)
    else:

        def solve(part: MicroBatch) -> SampleResult:
            denoise, step, levels = _wrapped(
                pipeline,
                operator,
                y[part.rows],
                pipeline.denoiser(part.labels, settings),
                how,
                settings,
                sigma,
                mask,
            )
            x = start(part.key, pipeline.codec.latent_shape)
            return pipeline.draw(denoise, x, levels, step, part.key, part.recorder)

        key = pipeline.key(seed, len(y))
        found = pipeline.map_images(
            key, solve, label=label, recorder=recorder, gradients=how.solver in BY_GRADIENT
        )
    if mask is None or sigma > 0:
        return found
    return SampleResult(torch.where(mask.bool().expand_as(found.images), y.cpu(), found.images), found.frames)


def inpaint(
    pipeline: Pipeline,
    images: Tensor,
    mask: Tensor,
    *,
    how: Restoration | None = None,
    settings: Sampling | None = None,
    label: Labels = None,
    seed: int = 0,
    recorder: Recorder = SILENT,
) -> SampleResult:
    """Fill in images [n, C, H, W] in [-1, 1] where the ``mask`` [H, W] or [C, H, W] is 0; :func:`restore` of
    the masked images.
    """
    channels, height, width = pipeline.codec.image_shape
    operator = masked((channels, height, width), mask)
    y = operator(images)
    return restore(
        pipeline,
        operator,
        y,
        how=how,
        settings=settings,
        mask=mask,
        label=label,
        seed=seed,
        recorder=recorder,
    )


def _wrapped(
    pipeline: Pipeline,
    operator: Operator,
    y: Tensor,
    denoise: Denoiser,
    how: Restoration,
    settings: Sampling,
    sigma: float,
    mask: Tensor | None,
) -> tuple[Denoiser, SamplerStep, list[int]]:
    """The denoiser, step and levels of a solver."""
    codec, schedule = pipeline.codec, pipeline.schedule
    step, levels = pipeline.plan(settings)

    def measure(latents: Tensor) -> Tensor:
        return operator(codec.decode(latents))

    if how.solver == "dps":
        return denoise, dps(step, measure, y, zeta=how.zeta, size=how.step_size), levels
    if how.solver == "psld":
        if isinstance(codec, IdentityCodec):
            raise InputError(
                "solver psld: is for latent models, this one works on pixels; expected dps (--solver dps)"
            )
        glued = psld(
            step, operator, y, decode=codec.decode, encode=codec.encode, eta=how.zeta, gamma=how.glue
        )
        return denoise, glued, levels
    if how.solver == "ald":
        return (
            denoise,
            score_ald(step, measure, y, schedule, sigma=max(sigma, 1e-3), anneal=how.anneal),
            levels,
        )
    if how.solver == "diffpir":
        correct = half_quadratic(operator, y, schedule, sigma=sigma, strength=how.trust)
        through = corrected(denoise, lambda x0, t: codec.encode(correct(codec.decode(x0), t)))
        return through, diffpir_step(schedule, share=how.share), levels
    if mask is None:
        raise InputError(
            f"solver {how.solver}: is for inpainting, expected a mask; dps and diffpir take any operator"
        )
    known, here = pipeline.encode(y.clamp(-1, 1)), latent_mask(pipeline, mask)
    if how.solver == "repaint":
        if how.jumps > 1 and how.jump_length >= len(levels) - 1:
            raise InputError(
                f"solver repaint: jumps of {how.jump_length} moves need more moves than that, got"
                f" {len(levels) - 1}; expected a smaller jump length or more steps (--jump-length, --steps)"
            )
        step, levels = (
            with_renoising(step, schedule),
            repaint_schedule(levels, length=how.jump_length, times=how.jumps),
        )
    return denoise, repaint(step, known, here, schedule), levels


def latent_mask(pipeline: Pipeline, mask: Tensor) -> Tensor:
    """The mask of the latents: a latent pixel is known where all its image pixels are.

    InputError for vector latents.
    """
    codec, shape = pipeline.codec, pipeline.codec.latent_shape
    if isinstance(codec, IdentityCodec):
        return mask.to(pipeline.device)
    if len(shape) != 3:
        raise InputError(
            "solvers replacement and repaint: a vector latent has no places to replace; expected dps or"
            " diffpir (--solver dps)"
        )
    known = mask.float().expand(codec.image_shape).amin(0)
    factor = codec.image_shape[1] // shape[1]
    blocks: Tensor = known.unflatten(0, (-1, factor)).unflatten(2, (-1, factor))
    return blocks.amin((1, 3)).to(pipeline.device)

"""Restoration of degraded images, y = A x + noise, by the solvers of :mod:`latentdiff.diffusion.solvers`."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.config.restoration import SOLVERS, Restoration
from latentdiff.config.sampling import SAMPLERS, Sampling
from latentdiff.diffusion.loop import start
from latentdiff.diffusion.operators import Operator, masked
from latentdiff.diffusion.samplers import max_level
from latentdiff.diffusion.solvers import InverseProblem, LoopArguments, solver_function
from latentdiff.diffusion.trajectory import SILENT, Recorder, SampleResult
from latentdiff.errors import InputError
from latentdiff.ops.random import Key
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import MicroBatch, Pipeline


def measured(operator: Operator, images: Tensor, *, sigma: float = 0.0, seed: int = 0) -> Tensor:
    """y = A x + sigma z of images [n, C, H, W] in [-1, 1]; image k draws its noise from seed + k.

    InputError for a sigma below 0.
    """
    if not sigma >= 0:
        raise InputError(f"`sigma` must be 0 or more, got {sigma:g}")
    y = operator(images)
    if sigma == 0:
        return y
    return y + sigma * Key.of(seed, len(y), device=y.device).at("degrade").normal(y.shape[1:], dtype=y.dtype)


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
    """Restore images [n, C, H, W] in [-1, 1] from measurements ``y`` [n, *measured_shape] of an operator.

    In latent spaces the operator acts on the decoded image. ``sigma`` is the noise of y. ``mask`` [H, W] or
    [C, H, W] (1: known) is required by the solvers replacement and repaint; with a mask and a ``sigma`` of 0
    the known pixels of y are kept exactly. InputError for a solver that does not fit the model, the operator
    or the sampler.
    """
    how, settings = how or Restoration(), settings or Sampling()
    _check(pipeline, operator, y, how, settings, mask)
    info, solver, options = SOLVERS[how.solver], solver_function(how.solver), how.options()
    known = latent_mask(pipeline, mask) if info.masks_only and mask is not None else None
    y = y.to(pipeline.device)

    def solve(part: MicroBatch) -> SampleResult:
        problem = InverseProblem(
            operator=operator,
            y=y[part.rows],
            sigma=sigma,
            schedule=pipeline.schedule,
            decode=pipeline.codec.decode,
            encode=pipeline.codec.encode,
            mask=known,
            max_level=max_level(pipeline.diffusion, pipeline.schedule),
        )
        (step, levels), denoise = pipeline.plan(settings), pipeline.denoiser(part.labels, settings)
        x = start(part.key, pipeline.codec.latent_shape)
        loop = solver(problem, LoopArguments(denoise, x, levels, step, part.key), **options)
        return pipeline.draw(loop.denoise, loop.x, loop.levels, loop.step, loop.key, part.recorder)

    found = pipeline.map_images(
        pipeline.key(seed, len(y)), solve, label=label, recorder=recorder, gradients=info.gradients
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
    """:func:`restore` images [n, C, H, W] in [-1, 1] where the ``mask`` [H, W] or [C, H, W] is 0."""
    channels, height, width = pipeline.codec.image_shape
    operator = masked((channels, height, width), mask)
    return restore(
        pipeline,
        operator,
        operator(images),
        how=how,
        settings=settings,
        mask=mask,
        label=label,
        seed=seed,
        recorder=recorder,
    )


def _check(
    pipeline: Pipeline,
    operator: Operator,
    y: Tensor,
    how: Restoration,
    settings: Sampling,
    mask: Tensor | None,
) -> None:
    """InputError for arguments of :func:`restore` that do not fit one another."""
    pipeline.check_levels()
    if unused := how.unused(settings):
        raise InputError(
            f"`solver` {how.solver}: replaces the sampler's steps, expected ddim without eta, got {unused}"
        )
    if SOLVERS[how.solver].gradients and SAMPLERS[settings.sampler].evaluations > 1:
        one = [name for name, row in SAMPLERS.items() if row.evaluations == 1]
        raise InputError(
            f"`solver` {how.solver}: its gradient is of the one estimate of a move, expected a sampler with"
            f" one evaluation a move ({', '.join(one)}), got {settings.sampler}"
        )
    if tuple(operator.image_shape) != tuple(pipeline.codec.image_shape):
        raise InputError(
            f"expected an operator on {list(pipeline.codec.image_shape)}, got one on"
            f" {list(operator.image_shape)}"
        )
    if tuple(y.shape[1:]) != tuple(operator.measured_shape):
        raise InputError(f"expected measurements {['n', *operator.measured_shape]}, got {list(y.shape)}")
    if not bool(torch.isfinite(y).all()):
        raise InputError("expected finite measurements, got inf or nan")
    info = SOLVERS[how.solver]
    if info.needs == "latents" and isinstance(pipeline.codec, IdentityCodec):
        raise InputError(
            f"`solver` {how.solver}: is for latent models, this one works on pixels; expected dps"
        )
    if info.masks_only and (mask is None or operator.measured_shape != operator.image_shape):
        raise InputError(
            f"`solver` {how.solver}: is for inpainting, expected a mask; dps and diffpir take any operator"
        )


def latent_mask(pipeline: Pipeline, mask: Tensor) -> Tensor:
    """The mask of the latents: a latent pixel is known where all image pixels that it covers are known.

    ``mask`` is [H, W] or [C, H, W]. Returns [h, w], the sides of the latents, or ``mask`` itself for a model
    of pixels. InputError for vector latents.
    """
    codec, shape = pipeline.codec, pipeline.codec.latent_shape
    if isinstance(codec, IdentityCodec):
        return mask.to(pipeline.device)
    if len(shape) != 3:
        raise InputError(
            "`solver` replacement and repaint: a vector latent has no places to replace; expected dps or"
            " diffpir"
        )
    known = mask.float().expand(codec.image_shape).amin(0)
    factor = codec.image_shape[1] // shape[1]
    blocks: Tensor = known.unflatten(0, (-1, factor)).unflatten(2, (-1, factor))
    return blocks.amin((1, 3)).to(pipeline.device)

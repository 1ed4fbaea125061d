"""Reconstructions of test images from a noise level, in one step and by the sampler, beside the originals."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import run
from latentdiff.errors import InputError
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.examples import ACROSS
from latentdiff.evaluate.images import PairScores, score_pairs
from latentdiff.evaluate.interval_score import Resampling, Scores
from latentdiff.evaluate.outputs import clean_chunks
from latentdiff.metrics.features.pixels import as_pixels, as_unit
from latentdiff.pipeline.pipeline import Pipeline

FRACTIONS = (10, 4, 2)  # T/10, T/4, T/2


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Images [N, C, H, W] in [0, 1]: noised to level ``t``, denoised by one step, and by the sampler in
    ``steps`` moves.

    ``alpha_bar`` is that of the level. Of a latent model ``noised`` is what its VAE decodes the noised
    latents to.
    """

    t: int
    alpha_bar: float
    steps: int
    noised: Tensor
    one_step: Tensor
    iterative: Tensor


def reconstruct_from(
    pipeline: Pipeline,
    images: Tensor,
    t: int,
    *,
    labels: Tensor | None = None,
    settings: Sampling | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Reconstruction:
    """Noise images uint8 [N, C, H, W] to level ``t`` (image k by seed + k) and bring them back.

    The sampler of ``settings`` makes the moves of its plan that lie below t, starting at t. ``labels`` int64
    [N] condition it. InputError for a level that the model does not have.
    """
    chosen = settings or Sampling.model_validate({})
    if not 1 <= t <= pipeline.schedule.T:
        raise InputError(f"expected a level in 1..{pipeline.schedule.T}, the levels of this model, got {t}")
    step, plan = pipeline.plan(chosen)
    levels = [t, *(s for s in plan if s < t)]
    alpha, sigma = pipeline.schedule.at(t)
    kept: list[tuple[Tensor, ...]] = []
    for rows, x0, known, key in clean_chunks(
        pipeline, images, None if chosen.guidance == 0 else labels, seed=seed
    ):
        x_t = (alpha * x0.double() + sigma * key.at("train", t).normal(x0.shape[1:]).double()).float()
        denoise = pipeline.denoiser(known, chosen)
        with torch.no_grad():
            one = denoise(x_t, t).x0()
        ends = (x_t, one, run(denoise, x_t, levels, step, key))
        kept.append(tuple(as_unit(pipeline.decode(latents)) for latents in ends))
        if progress is not None:
            progress(rows.start + len(x0), len(images))
    noised, one_step, iterative = (torch.cat(column) for column in zip(*kept, strict=True))
    return Reconstruction(t, alpha**2, len(levels) - 1, noised, one_step, iterative)


@dataclass(frozen=True, kw_only=True)
class SampledPairScores(PairScores):
    """Images beside what the sampler made of them in ``steps`` moves."""

    steps: int


@dataclass(frozen=True)
class ReconstructionScores(Scores):
    """Each image against its own reconstruction from level ``t``; ``alpha_bar`` is that of the level."""

    t: int
    alpha_bar: float
    one_step: PairScores
    iterative: SampledPairScores
    examples: tuple[tuple[str, Tensor], ...] = field(default=(), repr=False, compare=False)


def default_levels(T: int) -> tuple[int, ...]:
    """T/10, T/4 and T/2, at least 1."""
    return tuple(sorted({max(1, T // share) for share in FRACTIONS}))


def score_reconstruction(
    images: Tensor, made: Reconstruction, *, resampling: Resampling | None = None
) -> ReconstructionScores:
    """Images uint8 [N, C, H, W], each against its own reconstruction.

    InputError where these are of other images.
    """
    one, many = (
        score_pairs(images, copies, resampling=resampling) for copies in (made.one_step, made.iterative)
    )
    iterative = SampledPairScores(**vars(many), steps=made.steps)
    sides = {"noised": made.noised, "estimate": made.one_step, steps_text(made.steps): made.iterative}
    rows = (
        ("original", images[:ACROSS]),
        *((name, as_pixels(each[:ACROSS])) for name, each in sides.items()),
    )
    return ReconstructionScores(made.t, made.alpha_bar, one, iterative, rows)


def steps_text(steps: int) -> str:
    """``1 step`` or ``5 steps``."""
    return f"{steps} step{'s' * (steps > 1)}"

"""Scores of a denoiser on test images: the error at each noise level, the loss over all, and the bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentdiff.diffusion.losses import Weighting
from latentdiff.errors import InputError
from latentdiff.evaluate.bound import Bits, StratifiedLoss, bits_of, stratified
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.interval_score import Resampling, Score, Scores, mean_score
from latentdiff.evaluate.outputs import OutputTables, clean_chunks, network_output
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline

LEVELS = 50


@dataclass(frozen=True)
class LevelLoss(Scores):
    """Unweighted mean squared errors by noise level, over ``n`` images with the same noise at every call.

    ``prediction`` is the error of what the network returns and ``prediction_se`` its standard error; ``x0``
    and ``eps`` are the errors of the clean latent and of the noise that follow from it (not clipped).
    """

    n: int
    levels: tuple[int, ...]
    prediction: tuple[float, ...]
    prediction_se: tuple[float, ...]
    x0: tuple[float, ...]
    eps: tuple[float, ...]


def spread_levels(T: int, count: int) -> tuple[int, ...]:
    """``count`` levels evenly over 1..T, both ends among them; all of them where there are no more."""
    return tuple(
        sorted({round(t) for t in torch.linspace(1, T, min(T, count), dtype=torch.float64).tolist()})
    )


def loss_by_level(
    pipeline: Pipeline,
    images: Tensor,
    *,
    labels: Tensor | None = None,
    levels: int | Sequence[int] = LEVELS,
    seed: int = 0,
    progress: Progress | None = None,
) -> LevelLoss:
    """The errors of a denoiser on images uint8 [N, C, H, W] at ``levels`` (so many, evenly spread, or these).

    Image k has the noise of seed + k at every level; ``labels`` int64 [N] condition it.
    """
    T = pipeline.schedule.T
    at = spread_levels(T, levels) if isinstance(levels, int) else tuple(levels)
    if not at or not all(1 <= t <= T for t in at):
        raise InputError(f"expected levels in 1..{T}, the levels of this model, got {list(at)}")
    tables = OutputTables.of(pipeline)
    errors = torch.empty(len(at), len(images), dtype=torch.float64)
    for rows, x0, known, key in clean_chunks(pipeline, images, labels, seed=seed):
        for i, t in enumerate(at):
            level = torch.full((len(x0),), t, dtype=torch.int64, device=x0.device)
            noise = key.at("train", t).normal(x0.shape[1:])
            errors[i, rows] = network_output(pipeline, tables, x0, level, known, noise=noise).error().cpu()
            if progress is not None:
                progress(len(at) * rows.start + (i + 1) * len(x0), len(at) * len(images))
    mean = errors.mean(1)
    deviation = errors.std(1, correction=min(1, len(images) - 1)) / len(images) ** 0.5
    index = torch.tensor(at)
    alpha, sigma, q = (table.cpu()[index] for table in (tables.alpha, tables.sigma, tables.q))
    # out - target = e gives x_0-hat - x_0 = q e and eps-hat - eps = -alpha q e / sigma
    x0_error = q.square() * mean
    eps_error = (alpha / sigma).square() * x0_error
    columns = (mean, deviation, x0_error, eps_error)
    return LevelLoss(len(images), at, *(tuple(column.tolist()) for column in columns))


@dataclass(frozen=True)
class DenoiserScores(Scores):
    """``loss``: with the weights of the training, uniform levels; ``bits_per_dimension``: of pixel models."""

    by_level: LevelLoss
    loss: Score
    weighting: Weighting
    strata: int
    bits_per_dimension: Bits | None
    prediction: str = field(default="", repr=False, compare=False)


def score_denoiser(
    pipeline: Pipeline,
    images: Tensor,
    *,
    labels: Tensor | None = None,
    weighting: Weighting = "uniform",
    levels: int = LEVELS,
    seed: int = 0,
    resampling: Resampling | None = None,
    progress: Progress | None = None,
) -> DenoiserScores:
    """All figures of a denoiser on images uint8 [N, C, H, W]; ``levels`` of the curve, strata of the sums."""
    count = min(levels, pipeline.schedule.T)

    def part(first: float, share: float) -> Progress | None:
        return (
            None
            if progress is None
            else lambda done, total: progress(round(100 * (first + share * done / total)), 100)
        )

    curve = loss_by_level(pipeline, images, labels=labels, levels=count, seed=seed, progress=part(0, 0.5))
    passed: StratifiedLoss = stratified(
        pipeline, images, labels=labels, weighting=weighting, count=count, seed=seed, progress=part(0.5, 0.5)
    )
    chosen = resampling or Resampling()
    bits = bits_of(passed, chosen) if isinstance(pipeline.codec, IdentityCodec) else None
    loss = mean_score(passed.loss, chosen)
    return DenoiserScores(curve, loss, weighting, count, bits, pipeline.diffusion.prediction)

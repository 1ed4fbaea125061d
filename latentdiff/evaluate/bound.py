"""Loss and variational bound over all timesteps by stratified sampling: for each image one level of each
stratum, so that a sum over T levels takes fewer than T calls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from latentdiff.data.order import integers
from latentdiff.diffusion.losses import VariationalBound, Weighting, level_weights
from latentdiff.diffusion.samplers import VarianceKind, check_variance
from latentdiff.errors import InputError
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.interval_score import Resampling, Score, Scores, mean_score
from latentdiff.evaluate.outputs import NetworkOutput, OutputTables, clean_chunks, network_output
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True, eq=False)
class StratifiedLoss:
    """Of each image, float64 [N]: the weighted loss (mean over levels) and the bound in bits per dimension.

    The bound is ``prior`` + ``terms`` + ``decoder`` = L_T + sum of L_{t-1} for t = 2..T + L_0 of Ho et al.
    2020, eq. 5; None for latent models, whose latents are no data. ``count`` strata: with T of them every
    level was visited.
    """

    count: int
    T: int
    variance: VarianceKind
    loss: Tensor
    prior: Tensor | None
    terms: Tensor | None
    decoder: Tensor | None


def strata_edges(T: int, count: int) -> list[tuple[int, int]]:
    """(first, last) levels of ``count`` strata of 1..T: level 1 alone, as its term differs, others evenly."""
    rest = max(0, min(T, max(2, count)) - 1)
    cuts = [1 + i * (T - 1) // rest for i in range(rest + 1)] if rest else [1]
    return [(1, 1), *((low + 1, high) for low, high in pairwise(cuts))]


def stratified(
    pipeline: Pipeline,
    images: Tensor,
    *,
    labels: Tensor | None,
    weighting: Weighting,
    count: int,
    variance: VarianceKind | None = None,
    seed: int,
    progress: Progress | None = None,
) -> StratifiedLoss:
    """Visit ``count`` levels of each image uint8 [N, C, H, W], one out of each stratum, with its own noise.

    Every estimate is unbiased and the images' are independent, so the standard error over images holds for
    all of it. ``variance`` is the reverse process's (default: learned where the model learned it, else
    small).
    """
    tables, schedule, n = OutputTables.of(pipeline), pipeline.schedule, len(images)
    weights = level_weights(
        schedule, pipeline.diffusion.prediction, weighting, sigma_data=pipeline.diffusion.sigma_data
    ).to(pipeline.device)
    pixels = isinstance(pipeline.codec, IdentityCodec)
    bound = _Bound(pipeline, variance or ("learned" if pipeline.diffusion.variance == "learned" else "small"))
    edges = strata_edges(schedule.T, count)
    loss, prior, terms, decoder = (torch.zeros(n, dtype=torch.float64) for _ in range(4))
    for rows, x0, known, key in clean_chunks(pipeline, images, labels, seed=seed):
        if pixels:
            prior[rows] = prior_bits(x0, *schedule.at(schedule.T)).cpu()
        for s, (first, last) in enumerate(edges):
            size = last - first + 1
            places = torch.arange(n, dtype=torch.int64)[rows] * len(edges) + s
            t = (first + integers("level", places, seed=seed, choices=size)).to(x0.device)
            noise = key.at("train", s, visit=1).normal(x0.shape[1:])
            output = network_output(pipeline, tables, x0, t, known, noise=noise)
            loss[rows] += (weights[t] * output.error()).cpu() * size / schedule.T
            if pixels:
                (decoder if last == 1 else terms)[rows] += size * bound(output, t).cpu()
            if progress is not None:
                progress(len(edges) * rows.start + (s + 1) * len(x0), len(edges) * n)
    parts = (prior, terms, decoder) if pixels else (None, None, None)
    return StratifiedLoss(len(edges), schedule.T, bound.variance, loss, *parts)


def prior_bits(x0: Tensor, alpha: float, sigma: float) -> Tensor:
    """L_T = KL(q(x_T | x_0) || N(0, 1)) in bits per dimension, float64 [B]."""
    square = alpha * alpha  # sigma^2 = 1 - alpha^2: log1p keeps the digits where alpha is small
    terms = 0.5 * (square * x0.double().square() - square - math.log1p(-square))
    return terms.flatten(1).mean(1) / math.log(2)


class _Bound:
    """The term of the bound at a level, for fixed and learned variances."""

    def __init__(self, pipeline: Pipeline, variance: VarianceKind) -> None:
        self.variance: VarianceKind = variance
        self._bound = VariationalBound(
            pipeline.schedule,
            bins=True,
            scale=getattr(pipeline.codec, "scale", 1.0),
            shift=getattr(pipeline.codec, "shift", 0.0),
        )

    def __call__(self, output: NetworkOutput, t: Tensor) -> Tensor:
        """Bits per dimension [B].

        A fixed variance is an end of the learned range; level 1 has the small one of level 2.
        """
        spread = output.spread
        if self.variance != "learned" or spread is None:
            large = (t > 1).view(-1, *[1] * (output.x0.ndim - 1)) & (self.variance == "large")
            spread = torch.where(large, 1.0, -1.0).to(output.x0).expand_as(output.x0)
        return self._bound(output.x0, output.x_t, output.x0_hat, spread, t)


@dataclass(frozen=True)
class Bits(Scores):
    """L_T + sum of L_{t-1} + L_0 (Ho et al. 2020, eq. 5 and 13) in bits per dimension, over ``n`` images.

    ``prior``, ``terms`` and ``decoder`` are its three parts. ``strata`` of ``T``: where they are fewer, one
    level was drawn out of each for each image, and ``standard_error`` (over images) covers that too.
    """

    n: int
    total: Score
    standard_error: float
    prior: float
    terms: float
    decoder: float
    variance: VarianceKind
    strata: int
    T: int


def bits_per_dimension(
    pipeline: Pipeline,
    images: Tensor,
    *,
    labels: Tensor | None = None,
    variance: VarianceKind | None = None,
    levels: int | None = 50,
    seed: int = 0,
    resampling: Resampling | None = None,
    progress: Progress | None = None,
) -> Bits:
    """The bound of a pixel model on images uint8 [N, C, H, W].

    ``levels``: so many strata of the T levels, or None for all T terms. ``variance`` of the reverse process:
    small (beta-tilde), large (beta) or learned; default: what the model has, else small. InputError for
    latent models.
    """
    if not isinstance(pipeline.codec, IdentityCodec):
        raise InputError("bits per dimension are of pixel models: this one works on the latents of a VAE")
    check_variance(variance, pipeline.diffusion)
    count = pipeline.schedule.T if levels is None else levels
    passed = stratified(
        pipeline,
        images,
        labels=labels,
        weighting="uniform",
        count=count,
        variance=variance,
        seed=seed,
        progress=progress,
    )
    return bits_of(passed, resampling or Resampling())


def bits_of(passed: StratifiedLoss, resampling: Resampling) -> Bits:
    """The bound that a pass over the levels of a pixel model found. ValueError for a latent model's."""
    if passed.prior is None or passed.terms is None or passed.decoder is None:
        raise ValueError("expected a pass over a pixel model")
    each = passed.prior + passed.terms + passed.decoder
    n = len(each)
    return Bits(
        n=n,
        total=mean_score(each, resampling),
        standard_error=float(each.std(correction=min(1, n - 1))) / n**0.5,
        prior=float(passed.prior.mean()),
        terms=float(passed.terms.mean()),
        decoder=float(passed.decoder.mean()),
        variance=passed.variance,
        strata=passed.count,
        T=passed.T,
    )

"""The variational bound on the negative log-likelihood of 8-bit pixels, in bits per dimension."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from latentdiff.diffusion.samplers import NoiseSize
from latentdiff.errors import InputError
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.interval_score import Resampling, Score, Scores, mean_score
from latentdiff.evaluate.timesteps import StratifiedLoss, stratified
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline


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
    variance: NoiseSize
    strata: int
    T: int


def bits_per_dimension(
    pipeline: Pipeline,
    images: Tensor,
    *,
    labels: Tensor | None = None,
    variance: NoiseSize | None = None,
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
    if variance == "learned" and pipeline.diffusion.variance != "learned":
        raise InputError(
            "variance 'learned' needs a model trained with --variance learned; this one has fixed variance"
        )
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

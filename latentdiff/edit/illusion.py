"""Visual anagrams and hybrid images of a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.illusions.compose import SynchronizedDenoiser, anagram_of_latents, hybrid_of_latents
from latentdiff.diffusion.illusions.compose import anagram as anagram_of
from latentdiff.diffusion.illusions.compose import hybrid as hybrid_of
from latentdiff.diffusion.illusions.views import Band, View, check_orthogonal
from latentdiff.diffusion.loop import start
from latentdiff.diffusion.solvers import repaint_schedule, with_renoising
from latentdiff.diffusion.trajectory import SILENT, Recorder, SampleResult
from latentdiff.errors import InputError
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import MicroBatch, Pipeline

COMMUTES = 0.05  # relative error up to which a view of latents is taken for a view of images


def anagram(
    pipeline: Pipeline,
    parts: Sequence[tuple[int | str | None, View]],
    n: int = 16,
    *,
    weights: Sequence[float] | None = None,
    refine: int = 0,
    settings: Sampling | None = None,
    seed: int = 0,
    recorder: Recorder = SILENT,
) -> SampleResult:
    """``n`` images, each of them of the class of every part when seen through its view (Geng et al. 2024,
    Visual Anagrams).

    ``weights`` are those of the parts; every move is made 1 + ``refine`` times, with renoising in between,
    which brings the parts into agreement (the composed scores are not those of any noised distribution: Du et
    al. 2023, section 4). Where the decoder does not commute with a view (see
    :func:`codec_error`), every part has latents of its own
    (:class:`~latentdiff.diffusion.illusions.compose.SynchronizedDenoiser`). InputError for views that are not
    orthogonal.
    """
    commutes = all(codec_error(pipeline, view) <= COMMUTES for _, view in parts)
    for _, view in parts:
        check_orthogonal(view, pipeline.codec.latent_shape if commutes else pipeline.codec.image_shape)
    codec = pipeline.codec

    def mixed(count: int) -> Denoiser:
        views = [view for _, view in parts]
        pairs = list(zip(_denoisers(pipeline, parts, settings, count), views, strict=True))
        if commutes:
            return anagram_of(pairs, weights=weights)
        return anagram_of_latents(pairs, encode=codec.encode, decode=codec.decode, weights=weights)

    return _drawn(pipeline, mixed, 1 if commutes else len(parts), n, refine, settings, seed, recorder)


def hybrid(
    pipeline: Pipeline,
    parts: Sequence[tuple[int | str | None, Band]],
    n: int = 16,
    *,
    weights: Sequence[float] | None = None,
    refine: int = 0,
    settings: Sampling | None = None,
    seed: int = 0,
    recorder: Recorder = SILENT,
) -> SampleResult:
    """``n`` images whose bands are each of the class of its part (Geng et al. 2024, Factorized Diffusion).

    The bands have to sum to the identity, see :mod:`latentdiff.diffusion.illusions.views`; unequal
    ``weights`` raise one band's contrast against the others; ``refine`` and latents as for :func:`anagram`.
    """
    codec = pipeline.codec
    pixels = isinstance(codec, IdentityCodec)

    def mixed(count: int) -> Denoiser:
        bands = [band for _, band in parts]
        pairs = list(zip(_denoisers(pipeline, parts, settings, count), bands, strict=True))
        if pixels:
            return hybrid_of(pairs, weights=weights)
        return hybrid_of_latents(pairs, encode=codec.encode, decode=codec.decode, weights=weights)

    return _drawn(pipeline, mixed, 1 if pixels else max(1, len(parts)), n, refine, settings, seed, recorder)


@torch.no_grad()
def codec_error(pipeline: Pipeline, view: View, *, n: int = 32) -> float:
    """The distance of D(V z) from V D(z) over random latents, as a share of the images' deviation from their
    mean; 0 for pixels, infinite for vectors.
    """
    codec = pipeline.codec
    if isinstance(codec, IdentityCodec):
        return 0.0
    image = torch.zeros(1, *codec.image_shape)
    if view(image) is image:
        return 0.0
    if len(codec.latent_shape) != 3:
        return math.inf
    latents = pipeline.key(0, n).normal(codec.latent_shape)
    images, turned = view(codec.decode(latents)), codec.decode(view(latents))
    spread = (images - images.mean(0)).norm()
    return float((turned - images).norm() / spread.clamp_min(1e-12))


def _denoisers(
    pipeline: Pipeline, parts: Sequence[tuple[int | str | None, object]], settings: Sampling | None, n: int
) -> list[Denoiser]:
    """One denoiser for each part, the same object for the same class."""
    if not parts:
        raise InputError("expected one part or more, got none")
    made: dict[int | str | None, Denoiser] = {}
    for label, _ in parts:
        if label not in made:
            made[label] = pipeline.denoiser(pipeline.conditioner.encode(label, n), settings)
    return [made[label] for label, _ in parts]


def _drawn(
    pipeline: Pipeline,
    mixed: Callable[[int], Denoiser],
    each: int,
    n: int,
    refine: int,
    settings: Sampling | None,
    seed: int,
    recorder: Recorder,
) -> SampleResult:
    """The loop with the denoiser that ``mixed`` makes for a number of images, of ``each`` latents."""
    step, levels = pipeline.plan(settings or Sampling())
    shape = pipeline.codec.latent_shape
    if refine:
        step, levels = (
            with_renoising(step, pipeline.schedule),
            repaint_schedule(levels, length=1, times=1 + refine),
        )

    def draw(part: MicroBatch) -> SampleResult:
        key, denoise = part.key, mixed(len(part.key))
        if not isinstance(denoise, SynchronizedDenoiser):
            return pipeline.draw(denoise, start(key, shape), levels, step, key, part.recorder)
        x = torch.cat([start(key, shape, visit=noise) for noise in denoise.noises])
        # steps that draw noise give all parts the same: each part's latents are as likely as by themselves
        keys, picture = key.repeat(each), partial(_picture, denoise)
        return pipeline.draw(denoise, x, levels, step, keys, part.recorder, decode=picture)

    return pipeline.map_images(pipeline.key(seed, n), draw, recorder=recorder, each=each)


@torch.no_grad()
def _picture(denoise: SynchronizedDenoiser, x: Tensor) -> Tensor:
    """The images of synchronized latents, float32 on the CPU, in [-1, 1]."""
    return denoise.picture(x).float().clamp(-1, 1).cpu()

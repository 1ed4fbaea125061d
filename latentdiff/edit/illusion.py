"""Visual anagrams and hybrid images of a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

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
from latentdiff.pipeline.codec import Codec, IdentityCodec
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
    """``n`` images of the class of every part when seen through its view (Geng et al. 2024, Visual Anagrams).

    ``weights`` are those of the parts; every move is made 1 + ``refine`` times, with renoising in between,
    which brings the parts into agreement (the composed scores are not those of any noised distribution: Du et
    al. 2023, section 4). Where the decoder does not commute with a view (see
    :func:`codec_error`), every part has latents of its own
    (:class:`~latentdiff.diffusion.illusions.compose.SynchronizedDenoiser`). InputError for views that are not
    orthogonal.
    """
    codec = pipeline.codec
    commutes = all(codec_error(pipeline, view) <= COMMUTES for _, view in parts)
    for _, view in parts:
        check_orthogonal(view, codec.latent_shape if commutes else codec.image_shape)
    of_latents = partial(anagram_of_latents, encode=codec.encode, decode=codec.decode)
    mix = partial(anagram_of if commutes else of_latents, weights=weights)
    return _drawn(pipeline, parts, mix, 1 if commutes else len(parts), n, refine, settings, seed, recorder)


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
    pixels = _plain(codec)
    of_latents = partial(hybrid_of_latents, encode=codec.encode, decode=codec.decode)
    mix = partial(hybrid_of if pixels else of_latents, weights=weights)
    return _drawn(pipeline, parts, mix, 1 if pixels else len(parts), n, refine, settings, seed, recorder)


@torch.no_grad()
def codec_error(pipeline: Pipeline, view: View, *, n: int = 32) -> float:
    """The distance of D(V z) from V D(z) over random latents, as a share of the images' deviation from their
    mean; 0 for pixels around 0, infinite for vectors.
    """
    codec = pipeline.codec
    if _plain(codec):
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


def _plain(codec: Codec) -> bool:
    """Whether latents are pixels around 0, so that any linear view of images is one of latents."""
    return isinstance(codec, IdentityCodec) and not codec.shift


def _drawn(
    pipeline: Pipeline,
    parts: Sequence[tuple[int | str | None, Any]],
    mix: Callable[[list[tuple[Denoiser, Any]]], Denoiser],
    each: int,
    n: int,
    refine: int,
    settings: Sampling | None,
    seed: int,
    recorder: Recorder,
) -> SampleResult:
    """The loop with the denoiser that ``mix`` makes of those of the parts, of ``each`` latents an image."""
    if not parts:
        raise InputError("expected one part or more, got none")
    step, levels = pipeline.plan(settings or Sampling())
    shape = pipeline.codec.latent_shape
    if refine:
        step = with_renoising(step, pipeline.schedule)
        levels = repaint_schedule(levels, length=1, times=1 + refine)

    def draw(part: MicroBatch) -> SampleResult:
        key, encode = part.key, pipeline.conditioner.encode
        made = {label: pipeline.denoiser(encode(label, len(key)), settings) for label in dict(parts)}
        denoise = mix([(made[label], what) for label, what in parts])
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

"""Visual anagrams and hybrid images of a trained model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from latentdiff.bands import Band
from latentdiff.codec import IdentityCodec
from latentdiff.config.sampling import Sampling
from latentdiff.denoise import Denoiser
from latentdiff.edit.drawing import SILENT, Drawn, Part, Watch, by_parts, denoiser_of, drawn, key_of
from latentdiff.errors import InputError
from latentdiff.mix import anagram as anagram_of
from latentdiff.mix import hybrid as hybrid_of
from latentdiff.pipeline import Pipeline
from latentdiff.random import Key
from latentdiff.sample import start
from latentdiff.solve import both_ways, with_jumps
from latentdiff.views import View, check_orthogonal

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
    watch: Watch = SILENT,
) -> Drawn:
    """``n`` images, each of them of the class of every part when seen through its view (Geng et al. 2024, Visual Anagrams).

    ``weights`` say how much each part counts; every move is made 1 + ``refine`` times, noised back up in between, which lets the parts
    agree (the composed scores are not those of any noised distribution: Du et al. 2023, section 4). InputError for views that are not orthogonal, and in latent spaces for those that the decoder does not commute
    with (see :func:`codec_error`).
    """
    for _, view in parts:
        error = codec_error(pipeline, view)
        check_orthogonal(view, pipeline.codec.latent_shape)
        if error > COMMUTES:
            raise InputError(
                f"view {view.name}: this model's decoder does not commute with it, a view of the latents differs from that of the image by {error:.0%}; expected a model of pixels"
            )

    def mixed(count: int) -> Denoiser:
        seen = zip(_denoisers(pipeline, parts, settings, count), [view for _, view in parts], strict=True)
        return anagram_of(list(seen), weights=weights)

    return _drawn(pipeline, mixed, n, refine, settings, seed, watch)


def hybrid(
    pipeline: Pipeline,
    parts: Sequence[tuple[int | str | None, Band]],
    n: int = 16,
    *,
    weights: Sequence[float] | None = None,
    refine: int = 0,
    settings: Sampling | None = None,
    seed: int = 0,
    watch: Watch = SILENT,
) -> Drawn:
    """``n`` images whose bands are each of the class of its part (Geng et al. 2024, Factorized Diffusion). InputError for latent models.

    The bands have to sum to the identity, see :mod:`latentdiff.bands`; unequal ``weights`` raise one band's contrast against the others; ``refine`` as
    for :func:`anagram`.
    """
    if not isinstance(pipeline.codec, IdentityCodec):
        raise InputError("hybrid: bands of latents are not bands of the image; expected a model of pixels")

    def mixed(count: int) -> Denoiser:
        heard = zip(_denoisers(pipeline, parts, settings, count), [band for _, band in parts], strict=True)
        return hybrid_of(list(heard), weights=weights)

    return _drawn(pipeline, mixed, n, refine, settings, seed, watch)


@torch.no_grad()
def codec_error(pipeline: Pipeline, view: View, *, n: int = 32) -> float:
    """How far D(V z) is from V D(z) over random latents: the difference as a share of the images' deviation from their mean; 0 for pixels."""
    codec = pipeline.codec
    if isinstance(codec, IdentityCodec):
        return 0.0
    latents = Key.of(0, n, device=pipeline.device).normal(codec.latent_shape)
    if view(latents) is latents:
        return 0.0
    if latents.ndim != 4:
        raise InputError(
            "views: a vector latent has no pixels to turn; expected a model of pixels or of a spatial latent"
        )
    images, turned = view(codec.decode(latents)), codec.decode(view(latents))
    spread = (images - images.mean(0)).norm()
    return float((turned - images).norm() / spread.clamp_min(1e-12))


def _denoisers(
    pipeline: Pipeline, parts: Sequence[tuple[int | str | None, object]], settings: Sampling | None, n: int
) -> list[Denoiser]:
    """One denoiser for each part, the same object for the same class."""
    made: dict[int | str | None, Denoiser] = {}
    for label, _ in parts:
        if label not in made:
            made[label] = denoiser_of(pipeline, settings or Sampling(), label, n)
    return [made[label] for label, _ in parts]


def _drawn(
    pipeline: Pipeline,
    mixed: Callable[[int], Denoiser],
    n: int,
    refine: int,
    settings: Sampling | None,
    seed: int,
    watch: Watch,
) -> Drawn:
    """The loop with the denoiser that ``mixed`` makes for a number of images."""
    step, levels = pipeline.plan(settings or Sampling())
    if refine:
        step, levels = both_ways(step, pipeline.schedule), with_jumps(levels, length=1, times=1 + refine)

    def made(part: Part) -> Drawn:
        count = len(range(n)[part.rows])
        key = key_of(pipeline, part.seed, count)
        x = start(key, pipeline.codec.latent_shape)
        return drawn(pipeline, mixed(count), x, levels, step, key, part.watch)

    return by_parts(pipeline, n, made, label=None, seed=seed, watch=watch)

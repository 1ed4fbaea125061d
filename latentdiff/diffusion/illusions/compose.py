"""Composed denoisers: visual anagrams (views), hybrids (bands), and their synchronization in latent space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.illusions.views import Band, View


def anagram(parts: Sequence[tuple[Denoiser, View]], *, weights: Sequence[float] | None = None) -> Denoiser:
    """One image from denoisers of its views: x_0 = sum_i w_i V_i^-1 x_0^(i)(V_i x), where the w_i sum to 1.

    ``weights`` default to equal ones and are divided by their sum. The outputs are mixed before any clip; a
    learned variance is left out. The denoisers are of one process. Geng et al. 2024 (Visual Anagrams), eq. 4.
    ValueError without parts, for weights that do not fit or denoisers of different processes.
    """
    shares: dict[tuple[Denoiser, View], float] = {}  # a repeated part is evaluated once
    for part, share in zip(parts, _shares("anagram", len(parts), weights), strict=True):
        shares[part] = shares.get(part, 0.0) + share

    def denoise(x: Tensor, t: int) -> Estimate:
        parts = [(denoiser(view(x), t), view, share) for (denoiser, view), share in shares.items()]
        outs = [view.back(out) for estimate, view, _ in parts for out in estimate.outputs]
        return _mixed(x, [estimate for estimate, _, _ in parts], outs, [share for _, _, share in parts])

    return denoise


def hybrid(parts: Sequence[tuple[Denoiser, Band]], *, weights: Sequence[float] | None = None) -> Denoiser:
    """One image from bands of several denoisers: x_0 = sum_i g_i B_i x_0^(i); the bands sum to the identity.

    The gains g_i are n times the ``weights`` divided by their sum: all 1 by default, which keeps the
    identity; others raise one band's contrast against the rest. The outputs are mixed before any clip; a
    learned variance is left out. Geng et al. 2024 (Factorized Diffusion), eq. 4. ValueError without parts,
    for weights that do not fit or denoisers of different processes.
    """
    gains = [len(parts) * share for share in _shares("hybrid", len(parts), weights)]

    def denoise(x: Tensor, t: int) -> Estimate:
        estimates = [denoiser(x, t) for denoiser, _ in parts]
        outs = [
            band(out)
            for estimate, (_, band) in zip(estimates, parts, strict=True)
            for out in estimate.outputs
        ]
        mixed = _mixed(x, estimates, outs, gains)
        raised = [(gain - 1, band) for gain, (_, band) in zip(gains, parts, strict=True) if gain != 1]
        if not raised:  # the bands of x itself add up to x
            return mixed
        rest = torch.stack([more * band(x) for more, band in raised]).sum(0)
        return replace(mixed, outputs=(*mixed.outputs, rest), q=(*mixed.q, mixed.p))

    return denoise


@dataclass(frozen=True, eq=False)
class SynchronizedDenoiser:
    """A denoiser of latents [k B, *shape], k synchronized versions (one for each part) of B images.

    A decoder commutes with few views and bands. So each part estimates its own clean latents, ``combine``
    joins their decoded images, and each estimate is moved by the encoded difference between its view of the
    joint image (``views``) and its own image. ``merge`` makes the final image of synchronized versions.
    ``noises``: the index of the starting noise of each part. Kim et al. 2024 (SyncTweedies), case 2, with the
    difference of two encodings in place of one, so that the autoencoder's error cancels.
    """

    denoisers: tuple[Denoiser, ...]
    combine: Callable[[Sequence[Tensor]], Tensor]
    merge: Callable[[Sequence[Tensor]], Tensor]
    views: tuple[Callable[[Tensor], Tensor], ...]
    noises: tuple[int, ...]
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, t: int) -> Estimate:
        own = [denoiser(part, t).x0() for denoiser, part in zip(self.denoisers, self._parts(x), strict=True)]
        images = [self.decode(latents) for latents in own]
        picture = self.combine(images)
        moved = [
            latents + (self.encode(view(picture)) - self.encode(image))
            for latents, image, view in zip(own, images, self.views, strict=True)
        ]
        return Estimate.from_x0(x, t, x0=torch.cat(moved))

    def picture(self, x: Tensor) -> Tensor:
        """The images [B, C, H, W] of synchronized latents [k B, *shape]."""
        return self.merge([self.decode(part) for part in self._parts(x)])

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.split(len(x) // len(self.denoisers)))


def anagram_of_latents(
    parts: Sequence[tuple[Denoiser, View]],
    *,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    weights: Sequence[float] | None = None,
) -> SynchronizedDenoiser:
    """:func:`anagram` in the images of latents: sum_i w_i V_i^-1 D(x_0^(i)) is the picture, D ``decode``."""
    shares, views = _shares("anagram", len(parts), weights), [view for _, view in parts]

    def combine(images: Sequence[Tensor]) -> Tensor:
        return _sum(
            [share * view.back(image) for share, view, image in zip(shares, views, images, strict=True)]
        )

    denoisers = tuple(denoiser for denoiser, _ in parts)
    noises = tuple(views.index(view) for view in views)  # equal views start from equal noise
    return SynchronizedDenoiser(denoisers, combine, combine, tuple(views), noises, encode, decode)


def hybrid_of_latents(
    parts: Sequence[tuple[Denoiser, Band]],
    *,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    weights: Sequence[float] | None = None,
) -> SynchronizedDenoiser:
    """:func:`hybrid` in the images of latents: sum_i g_i B_i D(x_0^(i)) is the picture, D = ``decode``."""
    gains = [len(parts) * share for share in _shares("hybrid", len(parts), weights)]

    def combine(images: Sequence[Tensor]) -> Tensor:
        return _sum([gain * band(image) for gain, (_, band), image in zip(gains, parts, images, strict=True)])

    def merge(images: Sequence[Tensor]) -> Tensor:  # the versions have the gains already
        return _sum([band(image) for (_, band), image in zip(parts, images, strict=True)])

    denoisers = tuple(denoiser for denoiser, _ in parts)
    same = (lambda picture: picture,) * len(parts)
    return SynchronizedDenoiser(denoisers, combine, merge, same, (0,) * len(parts), encode, decode)


def _sum(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum(0)


def _mixed(
    x: Tensor, estimates: Sequence[Estimate], outs: Sequence[Tensor], shares: Sequence[float]
) -> Estimate:
    """The estimate p x + sum_i share_i q_i out_i; all estimates have one p, so that the mix is linear."""
    first = estimates[0]
    if any((e.p, e.clip, e.t) != (first.p, first.clip, first.t) for e in estimates):
        raise ValueError(
            "expected denoisers of one process (prediction, schedule and clip), got different ones"
        )
    q = tuple(share * q for share, estimate in zip(shares, estimates, strict=True) for q in estimate.q)
    return replace(first, x=x, outputs=tuple(outs), q=q, variance_range=None)


def _shares(what: str, n: int, weights: Sequence[float] | None) -> list[float]:
    given = [1.0] * n if weights is None else list(weights)
    if n == 0 or len(given) != n or not all(math.isfinite(w) and w >= 0 for w in given) or sum(given) <= 0:
        raise ValueError(
            f"{what}: expected {n or 'one or more'} weights of 0 or more, one above 0, got {given}"
        )
    return [w / sum(given) for w in given]

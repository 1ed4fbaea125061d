"""Denoisers made of several: one picture seen through views, or put together from bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from latentdiff.bands import Band
from latentdiff.denoise import Denoiser, Estimate
from latentdiff.views import View


def anagram(parts: Sequence[tuple[Denoiser, View]], *, weights: Sequence[float] | None = None) -> Denoiser:
    """One image that each denoiser sees through its view: x_0 = sum_i w_i V_i^-1 x_0^(i)(V_i x), the w_i sum to 1.

    ``weights`` default to equal ones and are divided by their sum. The outputs are mixed before any clip; a learned variance is left out.
    The denoisers are of one process. Geng et al. 2024 (Visual Anagrams), eq. 4. ValueError without parts, for weights that do not fit
    or denoisers of different processes.
    """
    shares: dict[
        tuple[Denoiser, View], float
    ] = {}  # a part that comes twice is asked once, and alone it is plain sampling
    for part, share in zip(parts, _shares("anagram", len(parts), weights), strict=True):
        shares[part] = shares.get(part, 0.0) + share

    def denoise(x: Tensor, t: int) -> Estimate:
        seen = [(denoiser(view(x), t), view, share) for (denoiser, view), share in shares.items()]
        outs = [view.back(out) for estimate, view, _ in seen for out in estimate.outs]
        return _mixed(x, [estimate for estimate, _, _ in seen], outs, [share for _, _, share in seen])

    return denoise


def hybrid(parts: Sequence[tuple[Denoiser, Band]], *, weights: Sequence[float] | None = None) -> Denoiser:
    """One image whose bands come from several denoisers: x_0 = sum_i g_i B_i x_0^(i), where the bands sum to the identity.

    The gains g_i are n times the ``weights`` divided by their sum: all 1 by default, which keeps the identity; others raise one band's
    contrast against the rest. The outputs are mixed before any clip; a learned variance is left out. Geng et al. 2024 (Factorized
    Diffusion), eq. 4. ValueError without parts, for weights that do not fit or denoisers of different processes.
    """
    gains = [len(parts) * share for share in _shares("hybrid", len(parts), weights)]

    def denoise(x: Tensor, t: int) -> Estimate:
        estimates = [denoiser(x, t) for denoiser, _ in parts]
        outs = [band(out) for estimate, (_, band) in zip(estimates, parts, strict=True) for out in estimate.outs]
        mixed = _mixed(x, estimates, outs, gains)
        raised = [(gain - 1, band) for gain, (_, band) in zip(gains, parts, strict=True) if gain != 1]
        if not raised:  # the bands of x itself add up to x
            return mixed
        rest = torch.stack([more * band(x) for more, band in raised]).sum(0)
        return replace(mixed, outs=(*mixed.outs, rest), q=(*mixed.q, mixed.p))

    return denoise


def _mixed(x: Tensor, estimates: Sequence[Estimate], outs: Sequence[Tensor], shares: Sequence[float]) -> Estimate:
    """The estimate p x + sum_i share_i q_i out_i; all of them have the same p, which is what makes the mix linear."""
    first = estimates[0]
    if any((e.p, e.clip, e.t) != (first.p, first.clip, first.t) for e in estimates):
        raise ValueError("expected denoisers of one process (prediction, schedule and clip), got different ones")
    q = tuple(share * q for share, estimate in zip(shares, estimates, strict=True) for q in estimate.q)
    return replace(first, x=x, outs=tuple(outs), q=q, spread=None)


def _shares(what: str, n: int, weights: Sequence[float] | None) -> list[float]:
    given = [1.0] * n if weights is None else list(weights)
    if n == 0 or len(given) != n or not all(math.isfinite(w) and w >= 0 for w in given) or sum(given) <= 0:
        raise ValueError(f"{what}: expected {n or 'one or more'} weights of 0 or more, one above 0, got {given}")
    return [w / sum(given) for w in given]

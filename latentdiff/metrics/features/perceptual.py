"""The perceptual distance of paired images: LPIPS's form, with learned weights or with w = 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.features.network import (
    PerceptualNetwork,
    Progress,
    full_chunks,
    in_float64,
    reproducible,
)
from latentdiff.metrics.features.pixels import check_images

SMOOTH = 1e-6  # beside the squared norm, in training
EPS = 1e-10  # beside the norm of a position's channels, as in the authors' code


def maps_distance(a: Sequence[Tensor], b: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """float64 [N]: sum over layers l of the mean over positions of sum_c w_lc (â_lc - b̂_lc)^2.

    a, b: maps [N, C_l, H_l, W_l]; â, b̂: with channels of unit norm at each position; weights: [C_l]. Zhang
    et al. 2018, eq. 1.
    """
    layers = []
    for ours, theirs, weight in zip(a, b, weights, strict=True):
        squares = (_unit(in_float64(ours)) - _unit(in_float64(theirs))).square()
        layers.append(torch.einsum("nchw,c->n", squares, weight.to(squares)) / squares[0, 0].numel())
    return torch.stack(layers).sum(0)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + EPS)


def perceptual_loss(network: PerceptualNetwork, a: Tensor, b: Tensor) -> Tensor:
    """The distance [N] in float32 of images [N, C, H, W] in [-1, 1], for training: gradients in ``a``.

    Where all channels of a position are near zero the norm is smoothed, so that gradients stay finite.
    """
    with torch.no_grad():
        theirs = network.maps((b + 1) * 127.5)
    layers = []
    for x, y, weight in zip(network.maps((a + 1) * 127.5), theirs, network.weights, strict=True):
        squares = (_smooth_unit(x) - _smooth_unit(y)).square().mean((2, 3))
        layers.append((squares * weight.to(squares)).sum(1))
    return torch.stack(layers).sum(0)


def _smooth_unit(x: Tensor) -> Tensor:
    x = x.float()
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + SMOOTH)


def perceptual_distance(
    network: PerceptualNetwork, a: Tensor, b: Tensor, *, batch: int = 500, progress: Progress | None = None
) -> Tensor:
    """float64 [N]: how far each image of ``a`` is from its own of ``b``, uint8 [N, C, H, W]; 0 if equal.

    Bit for bit the same for any ``batch``; `perceptual_name` says what the figure may be called. InputError
    for other images, for shapes that differ, or where the network gives numbers that are not finite.
    """
    if check_images(a).shape != check_images(b).shape:
        raise InputError(f"expected pairs of images of one shape, found {list(a.shape)} and {list(b.shape)}")
    found, done = [], 0
    with reproducible():
        chunks = (full_chunks(network, side, batch=batch) for side in (a, b))
        for (ours, count), (theirs, _) in zip(*chunks, strict=True):
            distance = maps_distance(network.maps(ours), network.maps(theirs), network.weights)
            found.append(distance[:count].cpu())
            done += count
            if progress is not None:
                progress(done, len(a))
    distances = torch.cat(found)
    if not bool(torch.isfinite(distances).all()):
        raise InputError(
            f"{network.name}: expected finite distances, found NaN or infinity; are these its weights?"
        )
    return distances

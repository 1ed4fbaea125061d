"""Differences of image pairs: MSE, RMSE, PSNR and SSIM, each image with its own partner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.errors import InputError

WINDOW, WINDOW_SIGMA = 11, 1.5  # pixels
K1, K2 = 0.01, 0.03
Border = Literal["crop", "reflect"]
CHUNK = 256  # images in flight


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each pair of images [N, C, H, W], float64 [N].

    uint8, or float in [0, 1]; the range of the data is 1. InputError for others, or unequal shapes.
    """
    _check(a, b)
    return _by_chunk(a, b, lambda p, q: (p - q).square().flatten(1).mean(1))


def rmse(a: Tensor, b: Tensor) -> Tensor:
    """Root of :func:`mse`, float64 [N]: in units of the data's range."""
    return mse(a, b).sqrt()


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """-10 log10 :func:`mse` in dB, float64 [N].

    Identical images have infinity, and so has any mean that they are in.
    """
    return -10 * mse(a, b).log10()


def ssim(a: Tensor, b: Tensor, *, border: Border = "crop") -> Tensor:
    """Mean structural similarity of each pair of images [N, C, H, W] of uint8 or float in [0, 1], float64
    [N].

    A Gaussian window of 11 pixels with sigma 1.5, weighted (biased) covariances, K1 = 0.01, K2 = 0.03, mean
    over channels and places. ``border``: "crop" takes the places where the window lies within the image, as
    Wang's code and scikit-image do; "reflect" takes all pixels and mirrors the image beyond its edges, as
    torchmetrics does since it stopped cropping. Smaller images have the largest odd window that fits (8x8: 7;
    see :func:`ssim_window`). InputError as for :func:`mse`. Wang et al. 2004, eq. 13-16.
    """
    _check(a, b)
    window = ssim_window(a.shape[2], a.shape[3])
    reach = window // 2 if border == "reflect" else 0
    return _by_chunk(a, b, lambda p, q: _ssim(_mirrored(p, reach), _mirrored(q, reach), window))


def ssim_window(height: int, width: int) -> int:
    """The side of the window of :func:`ssim` for images of that size, in pixels."""
    side = min(height, width, WINDOW)
    return side - 1 + side % 2


def _mirrored(x: Tensor, reach: int) -> Tensor:
    return F.pad(x, (reach, reach, reach, reach), mode="reflect")


def _ssim(a: Tensor, b: Tensor, window: int) -> Tensor:
    mean_a, mean_b = _smooth(a, window), _smooth(b, window)
    var_a = _smooth(a * a, window) - mean_a * mean_a
    var_b = _smooth(b * b, window) - mean_b * mean_b
    cov = _smooth(a * b, window) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(1)


def _smooth(x: Tensor, window: int) -> Tensor:
    """Weighted means over the window, [N, C, H, W] -> [N, C, H - window + 1, W - window + 1].

    Sums of shifted images: a convolution's kernel, and with it the last digits, may depend on the batch.
    """
    place = torch.arange(window, dtype=x.dtype) - window // 2
    weights = torch.exp(-0.5 * (place / WINDOW_SIGMA).square())
    taps = (weights / weights.sum()).tolist()
    for dim in (2, 3):
        size = x.shape[dim] - window + 1
        total = torch.zeros_like(x.narrow(dim, 0, size))
        for k, tap in enumerate(taps):
            total += x.narrow(dim, k, size) * tap
        x = total
    return x


def _by_chunk(a: Tensor, b: Tensor, measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A measure of pairs of float64 images in [0, 1], a chunk at a time."""
    pairs = zip(a.split(CHUNK), b.split(CHUNK), strict=True)
    return torch.cat([measure(_unit(p), _unit(q)) for p, q in pairs])


def _unit(images: Tensor) -> Tensor:
    """float64 in [0, 1]."""
    values = images.detach().double()
    return values / 255 if images.dtype == torch.uint8 else values


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise InputError(f"expected pairs of one shape, found {list(a.shape)} and {list(b.shape)}")
    if a.ndim != 4 or a.numel() == 0:
        raise InputError(f"expected images [N, C, H, W], found shape {list(a.shape)}")
    for images in (a, b):
        if images.dtype == torch.uint8:
            continue
        if not images.is_floating_point():
            raise InputError(f"expected images of uint8 or float, found {images.dtype}")
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise InputError(f"expected float images in [0, 1], found values from {low:g} to {high:g}")

"""Blur: convolution with a normalised kernel, images mirrored beyond their edges."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.diffusion.operators.linear import Operator, separable


def gaussian_taps(sigma: float, size: int | None = None) -> Tensor:
    """A normalised Gaussian in one dimension, float64 [size]; by default it reaches 3 sigma. sigma in pixels.

    ValueError for a sigma of 0 or less, or a size that is not odd.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"`sigma`: expected more than 0 pixels, got {sigma}")
    size = 2 * max(1, math.ceil(3 * sigma)) + 1 if size is None else size
    if size < 1 or size % 2 == 0:
        raise ValueError(f"`size`: expected an odd number of pixels, got {size}")
    place = torch.arange(size, dtype=torch.float64) - size // 2
    taps = torch.exp(-0.5 * (place / sigma).square())
    return taps / taps.sum()


def blur_matrix(taps: Tensor, n: int) -> Tensor:
    """The convolution with ``taps`` of a row of ``n`` pixels as a matrix [n, n]; every row sums to 1."""
    size = len(taps)
    sources = mirrored(n, size // 2)
    weights = torch.zeros(n, n, dtype=torch.float64)
    for k in range(size):
        weights.index_put_((torch.arange(n), sources[k : k + n]), taps[k].expand(n), accumulate=True)
    return weights


def gaussian_blur(image_shape: tuple[int, int, int], *, sigma: float, size: int | None = None) -> Operator:
    """Blur by a Gaussian of ``sigma`` pixels in a window of ``size`` (default: 3 sigma to each side)."""
    channels, height, width = image_shape
    taps = gaussian_taps(sigma, size)
    return separable("blur", channels, blur_matrix(taps, height), blur_matrix(taps, width))


def motion_kernel(length: float, angle: float) -> Tensor:
    """The path of ``length`` pixels at ``angle`` degrees (0: to the right, 90: up), float64 [n, n], sum 1.

    The line is sampled densely and shared out between the pixels around each point (bilinear weights).
    """
    if not (math.isfinite(length) and length >= 1):
        raise ValueError(f"`length`: expected 1 pixel or more, got {length}")
    if not math.isfinite(angle):
        raise ValueError(f"`angle`: expected a number of degrees, got {angle}")
    reach = math.ceil((length - 1) / 2)
    kernel = torch.zeros(2 * reach + 3, 2 * reach + 3, dtype=torch.float64)
    count = max(2, 16 * math.ceil(length))
    along = torch.linspace(-0.5, 0.5, count, dtype=torch.float64) * (length - 1)
    radians = math.radians(angle)
    y, x = reach + 1 - along * math.sin(radians), reach + 1 + along * math.cos(radians)
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = y.floor() + dy, x.floor() + dx
            weight = (1 - (y - row).abs()) * (1 - (x - column).abs())
            kernel.index_put_((row.long(), column.long()), weight, accumulate=True)
    kernel = (
        kernel[1:-1, 1:-1]
        if not (kernel[0].any() or kernel[-1].any() or kernel[:, 0].any() or kernel[:, -1].any())
        else kernel
    )
    return kernel / kernel.sum()


def motion_blur(image_shape: tuple[int, int, int], *, length: float, angle: float = 0.0) -> Operator:
    """Blur by a camera that moves ``length`` pixels at ``angle`` degrees while the shutter is open."""
    return convolution(image_shape, motion_kernel(length, angle), name="motion blur")


def convolution(image_shape: tuple[int, int, int], kernel: Tensor, *, name: str = "convolution") -> Operator:
    """y[i] = sum_k kernel[k] x[i + k - centre] in every channel; kernel: [odd, odd].

    The size of the image is kept.
    """
    kh, kw = kernel.shape
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"`kernel`: expected odd sides, got {kh}x{kw}")
    channels, height, width = image_shape
    rows, columns = mirrored(height, kh // 2), mirrored(width, kw // 2)

    def weights(x: Tensor) -> Tensor:
        return kernel.to(x).expand(channels, 1, kh, kw)

    def forward(x: Tensor) -> Tensor:
        padded = x[:, :, rows.to(x.device)][..., columns.to(x.device)]
        return F.conv2d(padded, weights(x), groups=channels)

    def transpose(y: Tensor) -> Tensor:
        padded = F.conv_transpose2d(y, weights(y), groups=channels)
        folded = y.new_zeros(len(y), channels, height, padded.shape[3])
        folded = folded.index_add(2, rows.to(y.device), padded)
        return y.new_zeros(len(y), channels, height, width).index_add(3, columns.to(y.device), folded)

    return Operator(name, image_shape, image_shape, forward, transpose)


def mirrored(n: int, reach: int) -> Tensor:
    """Indices of ``n`` pixels in a row with ``reach`` mirrored ones at both ends, int64 [n + 2 reach].

    The pixel at the edge is not doubled; a reach beyond the row goes on mirroring.
    """
    place = torch.arange(-reach, n + reach)
    if n == 1:
        return torch.zeros_like(place)
    period = 2 * (n - 1)
    place = place.remainder(period)
    return torch.minimum(place, period - place)

"""Fewer pixels: what super-resolution undoes."""

from __future__ import annotations

import torch

from latentdiff.diffusion.operators.linear import Operator, separable


def downsample(image_shape: tuple[int, int, int], factor: int) -> Operator:
    """Means of blocks of factor x factor pixels; ValueError unless both sides are multiples of it."""
    channels, height, width = image_shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"factor: expected a divisor of {height} and {width} pixels, got {factor}")

    def means(n: int) -> torch.Tensor:
        return torch.eye(n // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor

    return separable("downsample", channels, means(height), means(width))

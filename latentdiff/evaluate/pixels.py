"""Ranges of pixel values that measures and figures take."""

from __future__ import annotations

import torch
from torch import Tensor


def as_unit(images: Tensor) -> Tensor:
    """Float images in [-1, 1] as float images in [0, 1]."""
    return (images.clamp(-1, 1) + 1) / 2


def as_pixels(images: Tensor) -> Tensor:
    """uint8 images, or float ones in [0, 1] rounded to them."""
    return images if images.dtype == torch.uint8 else images.mul(255).round().clamp(0, 255).to(torch.uint8)

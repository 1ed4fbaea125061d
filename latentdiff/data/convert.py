"""uint8 pixels <-> float pixels in [-1, 1]."""

import torch
from torch import Tensor

from latentdiff.errors import InputError


def to_float(images: Tensor) -> Tensor:
    """Map uint8 pixels 0..255 to float32 in [-1, 1]: x / 127.5 - 1. Any shape; TypeError unless uint8."""
    if images.dtype != torch.uint8:
        raise TypeError(f"expected uint8 images, found {images.dtype}")
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Map float pixels in [-1, 1] to uint8, rounded to nearest and clamped; the inverse of `to_float`.

    Any shape and any floating dtype (computed in float32); TypeError unless floating; InputError if a value
    is NaN.
    """
    if not images.is_floating_point():
        raise TypeError(f"expected floating-point images, found {images.dtype}")
    pixels = images.detach().to(torch.float32)
    nans = int(pixels.isnan().sum())
    if nans:
        raise InputError(f"expected finite pixel values, found {nans} NaN in {pixels.numel()} values")
    return pixels.add(1.0).mul_(127.5).round_().clamp_(0.0, 255.0).to(torch.uint8)

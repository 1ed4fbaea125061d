"""Images as measures and networks take them: ranges of pixel values, channels and sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdiff.errors import InputError

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def check_images(images: Tensor) -> Tensor:
    """``images``; InputError unless they are uint8 [N, C, H, W] with N >= 1 and C = 1 or 3."""
    shape = list(images.shape)
    if images.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
        raise InputError(
            f"expected uint8 images [N, 1 or 3, H, W], N at least 1, found {images.dtype} {shape}"
        )
    return images


def as_unit(images: Tensor) -> Tensor:
    """Float images in [-1, 1] as float images in [0, 1]."""
    return (images.clamp(-1, 1) + 1) / 2


def as_pixels(images: Tensor) -> Tensor:
    """uint8 images, or float ones in [0, 1] rounded to them."""
    return images if images.dtype == torch.uint8 else images.mul(255).round().clamp(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Float [N, 1, H, W] in [0, 1]: RGB by its luma."""
    x = images.float() / 255
    return x if x.shape[1] == 1 else (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def rgb(images: Tensor) -> Tensor:
    """Float [N, 3, H, W] in 0..255: grey three times."""
    return images.float().expand(-1, 3, -1, -1)


def resized(x: Tensor, side: int, mode: str) -> Tensor:
    """[N, C, side, side], antialiased "bilinear" or "bicubic" as in Pillow; the aspect is not kept."""
    if x.shape[-2:] == (side, side):
        return x
    return F.interpolate(x, size=(side, side), mode=mode, align_corners=False, antialias=True)


def resized_like_tensorflow1(x: Tensor, side: int) -> Tensor:
    """[N, C, side, side], bilinear as in TensorFlow 1: output i at input i * size / side, no antialiasing.

    The resizing of the first FID (Heusel et al. 2017). Other conventions change FID (Parmar et al. 2022).
    """
    return _stretched(_stretched(x, side, dim=3), side, dim=2)


def _stretched(x: Tensor, side: int, *, dim: int) -> Tensor:
    size = x.shape[dim]
    position = torch.arange(side, dtype=torch.float32, device=x.device) * torch.tensor(
        size / side, dtype=torch.float32
    )
    low = position.long()
    weight = (position - low).view(-1, *[1] * (3 - dim))
    left, right = x.index_select(dim, low), x.index_select(dim, (low + 1).clamp(max=size - 1))
    return left + (right - left) * weight

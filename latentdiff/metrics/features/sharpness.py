"""The sharpness of images: how much neighboring pixels differ."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.metrics.features.pixels import check_images

CHUNK = 500  # images at once


def gradients(images: Tensor) -> Tensor:
    """The mean difference of neighboring pixels of each image uint8 [N, C, H, W], of values in [0, 1], over
    both directions and all channels: float64 [N] on the CPU.

    0 of an image of one color or one pixel. InputError for other images.
    """
    check_images(images)
    found = []
    for part in images.split(CHUNK):
        x = part.cpu().to(torch.int16)
        pairs = (x.diff(dim=dim).abs().flatten(1) for dim in (2, 3))
        found.append(
            sum((each.double().sum(1) / max(1, each.shape[1]) for each in pairs), start=x.new_zeros(()))
        )
    return torch.cat(found) / (2 * 255)

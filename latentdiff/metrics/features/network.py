"""Feature networks as a name, a hash and a function of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 50
"""Images in one call of a small network."""


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network whose features describe images as a whole.

    ``name``: as reports show it (weights that could not be verified are part of it); ``sha256``: of the
    weights file; ``dim``: features of an image; ``classes`` it tells apart; ``device``: where it is; ``run``:
    uint8 images [N, C, H, W] on that device -> (features [N, dim], logits [N, classes]), float32, prepared as
    the network's authors do; ``chunk``: images in each of its calls; ``class_names``: of its classes, ()
    where those of a data set are taken to be the same if they are as many.
    """

    name: str
    sha256: str
    dim: int
    classes: int
    device: torch.device
    run: Callable[[Tensor], tuple[Tensor, Tensor]]
    chunk: int = CHUNK
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PerceptualNetwork:
    """A network whose maps are compared position by position.

    ``maps``: images [N, C, H, W] on ``device``, uint8 or (for gradients) float in 0..255 -> one [N, C_l, H_l,
    W_l] for each layer l; ``weights``: [C_l] for each layer, the w_l of Zhang et al. 2018, eq. 1. ``name``,
    ``sha256`` and ``chunk`` as in `FeatureNetwork`.
    """

    name: str
    sha256: str
    device: torch.device
    maps: Callable[[Tensor], list[Tensor]]
    weights: tuple[Tensor, ...]
    chunk: int = CHUNK


def uniform_weights(channels: tuple[int, ...]) -> tuple[Tensor, ...]:
    """w = 1, averaged over the layers: the distance without learned weights."""
    return tuple(torch.full((count,), 1 / len(channels), dtype=torch.float64) for count in channels)

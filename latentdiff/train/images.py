"""Augmented batches of training images on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.config.data import DataOptions
from latentdiff.config.loop import LoopOptions
from latentdiff.data import Augment, to_float
from latentdiff.data.augment import AUGMENTATIONS
from latentdiff.data.types import ImageSplit
from latentdiff.ops.random import Key

# images that are encoded or validated at once; fixed, so that results do not depend on the batch size
CHUNK = 250


@dataclass(frozen=True)
class AugmentedImages:
    """Batches of a split: uint8 images, augmented, as float32 [B, C, H, W] in [-1, 1] on the device."""

    split: ImageSplit
    augment: Augment
    seed: int
    device: torch.device
    channels_last: bool

    @classmethod
    def of(
        cls, split: ImageSplit, data: DataOptions, loop: LoopOptions, device: torch.device
    ) -> AugmentedImages:
        return cls(
            split,
            Augment(**{name: getattr(data, name) for name in AUGMENTATIONS}),
            loop.seed,
            device,
            loop.channels_last,
        )

    def batch(self, positions: Tensor, indices: Tensor) -> Tensor:
        """The images ``indices`` (int64 [B]), augmented by the draws at their data ``positions`` (int64
        [B]).
        """
        return self.to_device(self.augment(self.split.images[indices], positions, self.seed))

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 images as float32 on the device, in the memory layout of the options."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return to_float(images.to(self.device)).contiguous(memory_format=layout)


def data_key(positions: Tensor, *, seed: int, device: torch.device) -> Key:
    """The noise of training samples: one seed for each data position, distinct for run seeds below 2^31."""
    return Key((positions + (seed << 32)).to(device))

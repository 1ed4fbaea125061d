"""Batches of training images as the networks want them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.config.loop import DataOptions, LoopOptions
from latentdiff.data import Augment, Split, StreamedSplit, to_float
from latentdiff.ops.random import Key

# images that are encoded or validated at once; fixed, so that results do not depend on the batch size
CHUNK = 250


@dataclass(frozen=True)
class AugmentedImages:
    """A split on the way to a device: augmented uint8 in, float32 [B, C, H, W] in [-1, 1] out."""

    split: Split | StreamedSplit
    augment: Augment
    seed: int
    device: torch.device
    channels_last: bool

    @classmethod
    def of(
        cls, split: Split | StreamedSplit, data: DataOptions, loop: LoopOptions, device: torch.device
    ) -> AugmentedImages:
        return cls(
            split, Augment(flip=data.flip, crop=data.random_shift), loop.seed, device, loop.channels_last
        )

    @property
    def augmented(self) -> bool:
        return self.augment.flip or self.augment.crop > 0

    def batch(self, positions: Tensor, indices: Tensor) -> Tensor:
        """The images ``indices`` augmented as their data positions decide."""
        return self.to_device(self.augment(self.split.images[indices], positions, self.seed))

    def prefetch(self, indices: Tensor) -> None:
        """These will be asked for next: where they stay on the disk, they are read meanwhile."""
        if isinstance(self.split, StreamedSplit):
            self.split.images.prefetch(indices.tolist())

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 images as float32 on the device in the layout asked for."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return to_float(images.to(self.device)).contiguous(memory_format=layout)


def data_key(positions: Tensor, *, seed: int, device: torch.device) -> Key:
    """The noise of training samples: one seed for each data position, apart for every run seed below 2^31."""
    return Key((positions + (seed << 32)).to(device))

"""Training batches: their images, noise levels and precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from latentdiff.config.data import DataOptions
from latentdiff.config.loop import LoopOptions
from latentdiff.data import Augment, to_float
from latentdiff.data.augment import AUGMENTATIONS
from latentdiff.data.order import integers
from latentdiff.data.types import ImageSplit
from latentdiff.nn.external import images_at_once
from latentdiff.ops.random import Key
from latentdiff.parallel.device import bf16_native

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
        """Images ``indices`` (int64 [B]), augmented by the draws at their data ``positions`` (int64 [B])."""
        return self.to_device(self.augment(self.split.images[indices], positions, self.seed))

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 images as float32 on the device, in the memory layout of the options."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return to_float(images.to(self.device)).contiguous(memory_format=layout)


def chunk_of(module: nn.Module) -> int:
    """Images that a network encodes or is validated with at once."""
    return images_at_once(module, CHUNK)


def data_key(positions: Tensor, *, seed: int, device: torch.device) -> Key:
    """The noise of training samples: one seed for each data position, distinct for run seeds below 2^31."""
    return Key((positions + (seed << 32)).to(device))


TimeSampling = Literal["uniform", "stratified", "logit-normal"]
RESOLUTION = 2**24


def draw_levels(kind: TimeSampling, positions: Tensor, *, batch: int, seed: int, T: int) -> Tensor:
    """Levels int64 [B] in 1..T for the data ``positions`` [B]; a pure function of position, seed and batch
    size.

    uniform: independent draws. stratified: one draw from each of ``batch`` equal slices of 0..T, so that
    every batch sees all levels and its loss has less variance (Kingma et al. 2021, appendix I.1).
    logit-normal: the same, with t / T the sigmoid of a standard normal, which visits the middle levels more
    often (Esser et al. 2024, eq. 19).
    """
    if kind == "uniform":
        return 1 + integers("level", positions, seed=seed, choices=T)
    inside = integers("level", positions, seed=seed, choices=RESOLUTION).double() / RESOLUTION
    u = (positions % batch + inside) / batch
    if kind == "logit-normal":
        u = torch.sigmoid(torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)))
    return 1 + (u * T).long().clamp(0, T - 1)


def autocast(options: LoopOptions, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 autocast as --bf16 says."""
    enabled = options.bf16 == "on" or (options.bf16 == "auto" and bf16_native(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)

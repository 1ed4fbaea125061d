"""Flips and shift crops on uint8 batches, a pure function of (seed, position)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.data.draws import integers


def _reflected(start: Tensor, length: int) -> Tensor:
    """Source rows start ..

    start+length-1 of each sample, reflected at the borders without repeating them: [B, L].
    """
    rows = (start[:, None] + torch.arange(length)).abs()
    return torch.minimum(rows, 2 * (length - 1) - rows)


@dataclass(frozen=True)
class Augment:
    """Random horizontal flip (p = 1/2) and random shift crop (reflection padding by `crop` pixels, cut back).

    ValueError if crop is negative.
    """

    flip: bool = False
    crop: int = 0

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ValueError(f"expected crop >= 0, found {self.crop}")

    def __call__(self, images: Tensor, positions: Tensor, seed: int) -> Tensor:
        """Augment uint8 images [B, C, H, W] at int64 positions [B] (place in the endless order); same shape.

        What happens to an image depends on (seed, its position) alone, never on the rest of the batch.
        ValueError unless shapes and dtypes fit, crop < min(H, W), 0 <= seed < 2^64.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"expected uint8 images [B, C, H, W], found {images.dtype} {tuple(images.shape)}"
            )
        batch, _, height, width = images.shape
        if positions.dtype != torch.int64 or positions.shape != (batch,):
            raise ValueError(
                f"expected int64 positions [{batch}], found {positions.dtype} {tuple(positions.shape)}"
            )
        if self.crop >= min(height, width):
            raise ValueError(f"expected crop below the image side {min(height, width)}, found {self.crop}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"expected a seed in 0..2^64-1, found {seed}")
        if not self.flip and self.crop == 0:
            return images
        shifts = 2 * self.crop + 1
        rows = _reflected(integers("shift_y", positions, seed=seed, choices=shifts) - self.crop, height)
        columns = _reflected(integers("shift_x", positions, seed=seed, choices=shifts) - self.crop, width)
        if self.flip:
            flipped = integers("flip", positions, seed=seed, choices=2) == 1
            columns = torch.where(flipped[:, None], columns.flip(1), columns)
        rows, columns = rows.to(images.device), columns.to(images.device)
        moved = images.gather(2, rows[:, None, :, None].expand_as(images))
        return moved.gather(3, columns[:, None, None, :].expand_as(images))

"""Augmentations of uint8 batches, each a pure function of (images, draws): a function below and a row in
:data:`AUGMENTATIONS`, with an option of the same name in ``config.data.DataOptions``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentdiff.data.order import integers

Draw = Callable[[str, int], Tensor]
"""``draw(purpose, choices)``: an integer in 0..choices-1 for each image, int64 [B], by (seed, its
position).
"""


def random_shift(images: Tensor, pixels: int, draw: Draw) -> Tensor:
    """Shift by up to ``pixels`` on each axis, reflected at borders. ValueError if out of range."""
    height, width = images.shape[2:]
    if not 0 <= pixels < min(height, width):
        raise ValueError(f"`random_shift`: expected 0..{min(height, width) - 1}, found {pixels}")
    rows = _reflected(draw("shift_y", 2 * pixels + 1) - pixels, height).to(images.device)
    columns = _reflected(draw("shift_x", 2 * pixels + 1) - pixels, width).to(images.device)
    moved = images.gather(2, rows[:, None, :, None].expand_as(images))
    return moved.gather(3, columns[:, None, None, :].expand_as(images))


def horizontal_flip(images: Tensor, on: int, draw: Draw) -> Tensor:
    """Mirror half of the images, left to right."""
    flipped = (draw("flip", 2) == 1).to(images.device)
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


AUGMENTATIONS: dict[str, Callable[[Tensor, int, Draw], Tensor]] = {
    "random_shift": random_shift,
    "flip": horizontal_flip,
}
"""By the name of the option, in the order of application; called with uint8 images [B, C, H, W], the
value of the option, and the draws; the result has the same shape.
"""


class Augment:
    """The augmentations whose options are not 0 or False, as ``Augment(flip=True, random_shift=2)``; falsy
    without any.

    ValueError for a negative value, TypeError for a name that is not in :data:`AUGMENTATIONS`.
    """

    def __init__(self, **values: int) -> None:
        if unknown := set(values) - set(AUGMENTATIONS):
            raise TypeError(f"expected augmentations {', '.join(AUGMENTATIONS)}, found {min(unknown)}")
        if negative := [name for name, value in values.items() if value < 0]:
            raise ValueError(f"expected {negative[0]} >= 0, found {values[negative[0]]}")
        self.values = {name: values[name] for name in AUGMENTATIONS if values.get(name)}

    def __bool__(self) -> bool:
        return bool(self.values)

    def __call__(self, images: Tensor, positions: Tensor, seed: int) -> Tensor:
        """Augment uint8 images [B, C, H, W] at int64 positions [B] (place in the endless order); same shape.

        The result for an image depends on (seed, its position) alone, never on the rest of the batch.
        ValueError unless shapes and dtypes fit and 0 <= seed < 2^64.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"expected uint8 images [B, C, H, W], found {images.dtype} {tuple(images.shape)}"
            )
        if positions.dtype != torch.int64 or positions.shape != (len(images),):
            raise ValueError(
                f"expected int64 positions [{len(images)}], found {positions.dtype} {tuple(positions.shape)}"
            )

        def draw(purpose: str, choices: int) -> Tensor:
            return integers(purpose, positions, seed=seed, choices=choices)

        for name, value in self.values.items():
            images = AUGMENTATIONS[name](images, value, draw)
        return images


def _reflected(start: Tensor, length: int) -> Tensor:
    """Source rows start..start+length-1 of each sample, reflected at the borders, not repeated: [B, L]."""
    rows = (start[:, None] + torch.arange(length)).abs()
    return torch.minimum(rows, 2 * (length - 1) - rows)

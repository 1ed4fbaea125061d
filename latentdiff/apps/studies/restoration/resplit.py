"""All images of a data set together, cut anew into a training and a held-out part."""

from __future__ import annotations

import torch

from latentdiff.data import Dataset, Split, permutation
from latentdiff.errors import InputError


def pooled(data: Dataset, *, share: float, seed: int) -> Dataset:
    """``share`` of all images for training, in an order that ``seed`` decides; the rest is both validation
    and test.

    InputError if a part would be empty.
    """
    parts = (data.train, data.val, data.test)
    images = torch.cat([part.images for part in parts])
    found = [part.labels for part in parts if part.labels is not None]
    labels = torch.cat(found) if len(found) == len(parts) else None
    order = permutation(len(images), seed=seed, epoch=0)
    count = round(share * len(images))
    if not 0 < count < len(images):
        raise InputError(
            f"{data.name}: expected images for a training and a held-out part, found {len(images)}"
        )

    def part(places: torch.Tensor) -> Split:
        return Split(images[places], None if labels is None else labels[places])

    held = part(order[count:])
    return Dataset(data.name, part(order[:count]), held, held, data.classes)

"""Brightness of images, as a whole and at their border: a test for inputs far from the training's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field, Strict
from torch import Tensor

from latentdiff.files.untrusted import checked

SHARE = 0.01  # of the training images that may lie below a range, and as many above it
MARGIN = 0.12  # beyond a range, of the whole range of brightness, that says nothing yet
LOOKED_AT = 500  # training images that the ranges are measured on
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Range = tuple[Share, Share]


@dataclass(frozen=True)
class Brightness:
    """Ranges that hold 98% of the training images, black 0 to white 1: of the mean and the border's mean."""

    mean: Range
    border: Range

    @classmethod
    def of(cls, images: Tensor) -> Brightness:
        """The ranges of images uint8 [N, C, H, W], one or more."""
        quantiles = torch.tensor([SHARE, 1 - SHARE], dtype=torch.float64)
        found = [torch.quantile(each, quantiles).tolist() for each in measured(images)]
        return cls(*((round(low, 4), round(high, 4)) for low, high in found))

    @classmethod
    def parse(cls, values: object, where: str) -> Brightness:
        """From the JSON of :meth:`dump`; InputError naming ``where`` for anything else."""
        found: Brightness = checked(cls, values, where, "mean and border as two numbers from 0 to 1 each")
        return found

    def dump(self) -> dict[str, Any]:
        """As JSON; :meth:`parse` reads it."""
        return {"mean": list(self.mean), "border": list(self.border)}

    def far(self, images: Tensor, *, margin: float = MARGIN) -> Tensor:
        """Which of the images uint8 [N, C, H, W] lie outside a range by more than the margin, bool [N]."""
        sides = zip(measured(images), (self.mean, self.border), strict=True)
        outside = [(found < low - margin) | (found > high + margin) for found, (low, high) in sides]
        return torch.stack(outside).any(0)


def measured(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean brightness of images uint8 [N, C, H, W], and of their outermost 14th (1 pixel up); float64 [N]."""
    flat = images.double().mean(1) / 255
    height, width = flat.shape[1:]
    edge = max(1, min(height, width) // 14)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[edge : height - edge, edge : width - edge] = True
    return flat.flatten(1).mean(1), flat[:, ~inside].mean(1)

"""Images of noise with one bright quarter, and a feature network that sees the quarters."""

import torch
from torch import Tensor

from latentdiff.metrics.features import FeatureNetwork

CPU = torch.device("cpu")


def noise(n: int, *, seed: int, low: int = 0, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, 256, (n, 1, side, side), dtype=torch.uint8, generator=generator)


def network(name: str = "corners", classes: int = 4) -> FeatureNetwork:
    """Features: the means of the four quarters; the class: the brightest one."""

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        quarters = images.float().unfold(2, 4, 4).unfold(3, 4, 4).mean((1, 4, 5)).flatten(1) / 255
        return quarters, 40 * quarters

    return FeatureNetwork(name, "0" * 64, 4, classes, CPU, run)


def bright(labels: Tensor, *, seed: int = 0) -> Tensor:
    """Images whose quarter ``label`` is the brightest."""
    images = noise(len(labels), seed=seed) // 4
    for k, label in enumerate(labels.tolist()):
        y, x = divmod(label, 2)
        images[k, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] += 150
    return images

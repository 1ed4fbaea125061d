"""Images through a network in fixed chunks: what an image's features are does not depend on a batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.features.network import FeatureNetwork, PerceptualNetwork
from latentdiff.metrics.features.pixels import check_images

POSITIONS = 2**20  # pixels, of any number of channels, in one call at most

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N images, with the network that made them.

    values: float64 [N, D]; predictions: the most probable class, int64 [N], and confidence: its probability,
    float64 [N], both None for a network without classes. All on the CPU.
    """

    network: str
    sha256: str
    values: Tensor
    predictions: Tensor | None = None
    confidence: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Features:
        """``function`` applied to values, predictions and confidence, as far as there are any."""
        classes = (None if x is None else function(x) for x in (self.predictions, self.confidence))
        return Features(self.network, self.sha256, function(self.values), *classes)

    def __getitem__(self, indices: Tensor) -> Features:
        """The features at ``indices`` int64 [K] (or where a mask [N] is true)."""
        return self.map(lambda tensor: tensor[indices])


def chunk_size(network: FeatureNetwork | PerceptualNetwork, images: Tensor) -> int:
    """Images [N, C, H, W] in one call of a network: its own number, fewer where H x W is large."""
    return max(1, min(network.chunk, POSITIONS // (images.shape[-2] * images.shape[-1])))


def full_chunks(
    network: FeatureNetwork | PerceptualNetwork, images: Tensor, *, batch: int
) -> Iterator[tuple[Tensor, int]]:
    """(a chunk of `chunk_size` images on the network's device, how many count): the last repeats its last
    image.

    Image k is always in the same place of the same chunk. ``batch`` only says how many images, in whole
    chunks, are moved to the device at once. InputError for a batch below 1.
    """
    if batch < 1:
        raise InputError(f"expected a batch of at least 1 image, found {batch}")
    size = chunk_size(network, images)
    for moved in images.split(max(1, batch // size) * size):
        for part in moved.to(network.device).split(size):
            yield torch.cat([part, part[-1:].expand(size - len(part), -1, -1, -1)]), len(part)


@contextmanager
def reproducible() -> Iterator[None]:
    """Without gradients, and on GPUs without TF32 and without algorithms that depend on chance."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.no_grad(), flags:
        yield


def in_float64(x: Tensor) -> Tensor:
    """``x`` in float64 on its device; on the CPU where the device has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def extract(
    network: FeatureNetwork, images: Tensor, *, batch: int = 500, progress: Progress | None = None
) -> Features:
    """The features of uint8 images [N, C, H, W], C = 1 or 3: bit for bit the same for any ``batch``.

    InputError for other images, or where the network gives numbers that are not finite.
    """
    check_images(images)
    values, predictions, confidence = [], [], []
    done = 0
    with reproducible():
        for chunk, count in full_chunks(network, images, batch=batch):
            features, logits = network.run(chunk)
            probability, guess = in_float64(logits[:count]).softmax(1).max(1)
            values.append(in_float64(features[:count]).cpu())
            predictions.append(guess.cpu())
            confidence.append(probability.cpu())
            done += count
            if progress is not None:
                progress(done, len(images))
    stacked = torch.cat(values)
    if not bool(torch.isfinite(stacked).all()):
        raise InputError(
            f"{network.name}: expected finite features, found NaN or infinity; are these its weights?"
        )
    return Features(network.name, network.sha256, stacked, torch.cat(predictions), torch.cat(confidence))

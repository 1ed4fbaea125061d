"""Feature networks as a name, a hash and a function of images, which come in fixed chunks: what an image's
features are does not depend on a batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.features.pixels import check_images
from latentdiff.metrics.features.sharpness import gradients

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


POSITIONS = 2**20  # pixels, of any number of channels, in one call at most

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N images, with the network that made them.

    values: float64 [N, D]; predictions: the most probable class, int64 [N], and confidence: its probability,
    float64 [N], both None for a network without classes; gradients: of the images themselves
    (:mod:`latentdiff.metrics.features.sharpness`), float64 [N], None where unknown. All on the CPU.
    """

    network: str
    sha256: str
    values: Tensor
    predictions: Tensor | None = None
    confidence: Tensor | None = None
    gradients: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Features:
        """``function`` applied to all tensors, as far as there are any."""
        others = (
            None if x is None else function(x) for x in (self.predictions, self.confidence, self.gradients)
        )
        return Features(self.network, self.sha256, function(self.values), *others)

    def __getitem__(self, indices: Tensor) -> Features:
        """The features at ``indices`` int64 [K] (or where a mask [N] is true)."""
        return self.map(lambda tensor: tensor[indices])


def network_labels(network: FeatureNetwork, labels: Tensor | None, names: Sequence[str]) -> Tensor | None:
    """Labels int64 [N] of classes ``names`` in the numbering of a network; None for other classes.

    By name where the network's classes have names, so that folders 3 and 7 are digits 3 and 7; else numbers
    are as they are where there are as many classes.
    """
    if labels is None or len(names) < 1:
        return None
    if not network.class_names:
        return labels if len(names) == network.classes > 1 else None
    if not set(names) <= set(network.class_names):
        return None
    return torch.tensor([network.class_names.index(name) for name in names], dtype=torch.int64)[labels]


def chunk_size(network: FeatureNetwork | PerceptualNetwork, images: Tensor) -> int:
    """Images [N, C, H, W] in one call of a network: its own number, fewer where H x W is large."""
    return max(1, min(network.chunk, POSITIONS // (images.shape[-2] * images.shape[-1])))


def full_chunks(
    network: FeatureNetwork | PerceptualNetwork, images: Tensor, *, batch: int
) -> Iterator[tuple[Tensor, int]]:
    """(`chunk_size` images on the network's device, how many count): the last repeats its last image.

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
    classes = torch.cat(predictions), torch.cat(confidence)
    return Features(network.name, network.sha256, stacked, *classes, gradients(images))
